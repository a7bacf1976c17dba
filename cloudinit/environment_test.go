package cloudinit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEnvironment(t *testing.T) {
	for value, want := range map[string]string{
		"":                       "",
		"simple":                 "simple",
		"http://10.0.0.1:80/a-b": "http://10.0.0.1:80/a-b",
		"a,b=c_d@e%f+g":          "a,b=c_d@e%f+g",
		"größe":                  "größe",
		"two words":              `"two words"`,
		"a$b":                    `"a\$b"`,
		"`x`":                    "\"\\`x\\`\"",
		`back\slash`:             `"back\\slash"`,
		`"`:                      `"\""`,
		"it's":                   `"it's"`,
		"a\nb":                   "\"a\nb\"",
		"#":                      `"#"`,
		"~/x":                    `"~/x"`,
	} {
		if got := quote(value); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}

// A shell reads back any value just as it was.
func TestEnvironmentByShell(t *testing.T) {
	path := filepath.Join(t.TempDir(), "environment")
	rapid.Check(t, func(rt *rapid.T) {
		value := strings.ReplaceAll(rapid.String().Draw(rt, "value"), "\x00", "")
		file := environment([]EnvVar{{"BEFORE", "1"}, {"VALUE", value}, {"AFTER", "2"}})
		if err := os.WriteFile(path, file.Data, 0o600); err != nil {
			rt.Fatal(err)
		}
		out, err := exec.Command("sh", "-euc", `. "$1"; printf %s. "$BEFORE$VALUE$AFTER"`, "sh", path).CombinedOutput()
		if want := "1" + value + "2."; err != nil || string(out) != want {
			rt.Fatalf("got %q, %v; want %q", out, err, want)
		}
	})
}

func FuzzRenderUserData(f *testing.F) {
	f.Add("key", "value", []byte("data"))
	f.Add("write_files", "", []byte{0xff})
	f.Fuzz(func(t *testing.T, key, value string, data []byte) {
		s := Seed{UserData: map[string]any{key: value}, Env: []EnvVar{{"A", value}}, Files: []WriteFile{{Path: value, Data: data}}}
		files, err := s.Render()
		if err != nil {
			return
		}
		if !strings.HasPrefix(string(files[1].Data), "#cloud-config\n") {
			t.Fatalf("got %q", files[1].Data)
		}
	})
}
