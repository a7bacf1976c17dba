package qmp

import "testing"

func TestHumanVerb(t *testing.T) {
	for args, want := range map[string]string{
		`{"command-line":"info status"}`:             "info",
		`{"command-line":" \t\ninfo\tstatus"}`:       "info",
		`{"command-line":"x/8x 0"}`:                  "x",
		`{"command-line":"quit","cpu-index":1}`:      "quit",
		`{"command-line":""}`:                        "",
		`{"command-line":7}`:                         "",
		`{"Command-Line":"quit"}`:                    "",
		`{"command-line":"info","command-line":"q"}`: "q",
		`[]`: "",
		``:   "",
	} {
		if got := HumanVerb([]byte(args)); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}
