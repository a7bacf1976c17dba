package netns

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// checkResult refuses what a plugin printed for ADD unless it is an object whose lists have something in each place: neither
// libcni, which converts results from one version to another, nor the plan looks out for null.
func checkResult(raw []byte) error {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		return fmt.Errorf("it printed no result but %q", quote(raw))
	}
	// Names are what encoding/json takes them for, in any case.
	var lists struct {
		IPs        listOfAny `json:"ips"`
		Interfaces listOfAny `json:"interfaces"`
		Routes     listOfAny `json:"routes"`
		IP4, IP6   struct {
			Routes listOfAny `json:"routes"`
		}
	}
	if err := json.Unmarshal(raw, &lists); err != nil {
		return fmt.Errorf("its result is malformed: %w", err)
	}
	for _, l := range []struct {
		name string
		list listOfAny
	}{
		{"ips", lists.IPs}, {"interfaces", lists.Interfaces}, {"routes", lists.Routes},
		{"ip4.routes", lists.IP4.Routes}, {"ip6.routes", lists.IP6.Routes},
	} {
		for i, entry := range l.list {
			if bytes.Equal(entry, []byte("null")) {
				return fmt.Errorf("its result is malformed: %s[%d] is null", l.name, i)
			}
		}
	}
	return nil
}

type listOfAny []json.RawMessage
