package qmp

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/qemulet/qemulet/qmp/qmptest"
)

// What QEMU 7.2 says of a Linux guest, with one value that the guest does not tell.
const guestStats = `{"stats": {"stat-htlb-pgalloc": 0, "stat-swap-out": 0, "stat-available-memory": 37007360, "stat-free-memory": 30101504,
	"stat-minor-faults": 4088, "stat-major-faults": 0, "stat-total-memory": 63508480, "stat-swap-in": 18446744073709551615, "stat-disk-caches": 5906432},
	"last-update": 1796087507}`

// tells is a machine whose balloon says that.
func tells(t *testing.T, stats string) *Conn {
	t.Helper()
	return served(t, qmptest.Script{"qom-get": func(cmd qmptest.Command) (any, error) {
		var args struct{ Path, Property string }
		if err := json.Unmarshal(cmd.Arguments, &args); err != nil || args.Path != "/balloon" || args.Property != "guest-stats" {
			t.Errorf("asked for %s, %v", cmd.Arguments, err)
		}
		return json.RawMessage(stats), nil
	}})
}

func TestGuestMemory(t *testing.T) {
	got, err := tells(t, guestStats).GuestMemory(t.Context(), "/balloon")
	if err != nil {
		t.Fatal(err)
	}
	if !got.Updated.Equal(time.Unix(1796087507, 0)) || *got.Total != 63508480 || *got.Available != 37007360 || *got.MinorFaults != 4088 || *got.SwapOut != 0 {
		t.Errorf("got %+v", got)
	}
	if got.SwapIn != nil {
		t.Errorf("what the guest does not tell is %d", *got.SwapIn)
	}
	if got, err := tells(t, `{"stats": {}, "last-update": 0}`).GuestMemory(t.Context(), "/balloon"); got != nil || err != nil {
		t.Errorf("of a guest that has told nothing: %+v, %v", got, err)
	}
}
