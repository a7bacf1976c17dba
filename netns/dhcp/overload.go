package dhcp

import "github.com/insomniacslk/dhcp/dhcpv4"

// Fields of a message that may hold options, and the bits of option 52 that say so (RFC 2132, section 9.3).
const (
	fieldName, fieldNameEnd = 44, 108 // sname
	fieldFile, fieldFileEnd = 108, 236

	inFile, inName = 1, 2
)

// parseRequest reads a message with all its options, in the order in which their parts belong together: those of the field "file"
// come before those of "sname" (RFC 3396, section 5).
func parseRequest(payload []byte) (*dhcpv4.DHCPv4, error) {
	req, err := dhcpv4.FromBytes(payload)
	if err != nil {
		return nil, err
	}
	var overload byte
	if value := req.Options.Get(dhcpv4.OptionOptionOverload); len(value) == 1 {
		overload = value[0]
	}
	if overload&inFile != 0 {
		err = req.Options.FromBytes(payload[fieldFile:fieldFileEnd])
	}
	if err == nil && overload&inName != 0 {
		err = req.Options.FromBytes(payload[fieldName:fieldNameEnd])
	}
	return req, err
}
