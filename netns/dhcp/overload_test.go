package dhcp

import (
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// overloaded moves options of a request to the fields that option 52 names.
func overloaded(t *testing.T, value byte, file, name []byte) []byte {
	t.Helper()
	payload := request(t, dhcpv4.MessageTypeRequest, option(52, value)).ToBytes()
	copy(payload[fieldFile:fieldFileEnd], file)
	copy(payload[fieldName:fieldNameEnd], name)
	return payload
}

// TestOverload: options may be in the fields for names, which most clients leave empty.
func TestOverload(t *testing.T) {
	address := append([]byte{50, 4}, others...)
	for name, tt := range map[string]struct {
		payload []byte
		want    dhcpv4.MessageType // 0: silence
	}{
		"in file":             {overloaded(t, inFile, append(address, 255), nil), dhcpv4.MessageTypeNak},
		"in sname":            {overloaded(t, inName, nil, append(address, 255)), dhcpv4.MessageTypeNak},
		"in both":             {overloaded(t, inFile|inName, append([]byte{50, 2}, ours[:2]...), append([]byte{50, 2}, ours[2:]...)), dhcpv4.MessageTypeAck},
		"only in sname":       {overloaded(t, inName, append([]byte{50, 4}, ours...), address), dhcpv4.MessageTypeNak},
		"names and no option": {overloaded(t, 0, append([]byte{50, 4}, ours...), nil), 0},
		"beyond the field":    {overloaded(t, inName, nil, []byte{60, 200}), 0},
	} {
		t.Run(name, func(t *testing.T) {
			lease := testLease()
			frame := lease.answerFrame(requestFrame(tt.payload))
			if frame == nil {
				if tt.want != 0 {
					t.Errorf("no answer, want %v", tt.want)
				}
				return
			}
			reply, err := dhcpv4.FromBytes(frame[etherLen+ipLen+udpLen:])
			if err != nil || reply.MessageType() != tt.want {
				t.Errorf("answer %v, %v; want %v", reply, err, tt.want)
			}
		})
	}
}
