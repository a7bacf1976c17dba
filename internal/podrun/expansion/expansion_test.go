package expansion

import "testing"

func TestExpandLeavesTheRestAlone(t *testing.T) {
	values := map[string]string{"A": "x"}
	for in, want := range map[string]string{
		"": "", "$": "$", "a$": "a$", "$(A": "$(A", "$(A)$(A)": "xx", "$$$(A)": "$x", "$()": "$()", "$A": "$A", "$$": "$",
	} {
		if got, _ := Expand(in, values); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}
