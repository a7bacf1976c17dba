package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load reads settings from a file's text, an environment and flags.
func load(t *testing.T, file string, environ []string, args ...string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse(append([]string{"--config", path}, args...)); err != nil {
		t.Fatal(err)
	}
	return Load(flags, environ)
}

func mustLoad(t *testing.T, file string, environ []string, args ...string) *Config {
	t.Helper()
	c, err := load(t, file, environ, args...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func origin(c *Config, name string) Origin {
	for _, v := range c.Values() {
		if v.Name == name {
			return v.Origin
		}
	}
	return "no such setting"
}

func TestDefaults(t *testing.T) {
	c := mustLoad(t, "", nil)
	for what, ok := range map[string]bool{
		"run-dir":    c.RunDir == "/run/qemulet",
		"cri-socket": c.CRISocket == "/run/qemulet/cri.sock",
		"api-socket": c.APISocket == "/run/qemulet/api.sock",
		"objects":    c.ObjectsDir == "/run/qemulet/objects" && c.Kubeconfig == "",
		"cni":        slices.Equal(c.CNIBinDirs, []string{"/opt/cni/bin", "/usr/lib/cni"}) && c.CNITimeout == 90*time.Second,
		"accel":      c.Accel == "auto",
		"regexp":     c.RegexpImageTranslation,
		"level":      c.Level() == slog.LevelInfo,
		"origin":     origin(c, "run-dir") == "default",
	} {
		if !ok {
			t.Errorf("%s: %+v", what, c)
		}
	}
}

func TestDefaultsAreAccepted(t *testing.T) {
	for _, s := range table(&Config{}) {
		if text := s.value.String(); text != "" {
			if err := s.value.Set(text); err != nil {
				t.Errorf("%s: the default %q: %v", s.name, text, err)
			}
		}
	}
}

func TestPrecedence(t *testing.T) {
	file := "run-dir: /from/file\naccel: kvm\n"
	env := []string{"QEMULET_RUN_DIR=/from/env", "QEMULET_ACCEL=tcg"}
	for _, test := range []struct {
		name          string
		file          string
		env, args     []string
		wantDir       string
		wantOriginHas string
	}{
		{"default", "", nil, nil, "/run/qemulet", "default"},
		{"file", file, nil, nil, "/from/file", "config.yaml"},
		{"environment over file", file, env, nil, "/from/env", "QEMULET_RUN_DIR"},
		{"flag over all", file, env, []string{"--run-dir", "/from/flag"}, "/from/flag", "--run-dir"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := mustLoad(t, test.file, test.env, test.args...)
			if c.RunDir != test.wantDir || c.CRISocket != test.wantDir+"/cri.sock" {
				t.Errorf("run-dir %s, cri-socket %s", c.RunDir, c.CRISocket)
			}
			if got := origin(c, "run-dir"); !strings.Contains(string(got), test.wantOriginHas) {
				t.Errorf("origin is %q", got)
			}
		})
	}
}

func TestKinds(t *testing.T) {
	c := mustLoad(t, `
cni-bin-dir: [/a, /b]
cni-timeout: 2m
regexp-image-translation: false
parallel-pulls: 5
stream-address: "[::1]:10010"
cri-socket: /else/cri.sock
`, []string{"QEMULET_LOG_LEVEL=debug", "QEMULET_CPU_MODEL="})
	if !slices.Equal(c.CNIBinDirs, []string{"/a", "/b"}) || c.CNITimeout != 2*time.Minute || c.RegexpImageTranslation ||
		c.ParallelPulls != 5 || c.StreamAddress != "[::1]:10010" || c.CRISocket != "/else/cri.sock" || c.Level() != slog.LevelDebug {
		t.Errorf("%+v", c)
	}
	for _, dirs := range []string{"/a:/b", "/a,/b"} {
		if c := mustLoad(t, "", nil, "--cni-bin-dir", dirs); !slices.Equal(c.CNIBinDirs, []string{"/a", "/b"}) {
			t.Errorf("%s: %v", dirs, c.CNIBinDirs)
		}
	}
}

func TestBooleanFlags(t *testing.T) {
	off := "regexp-image-translation: false"
	if c := mustLoad(t, off, nil, "--regexp-image-translation"); !c.RegexpImageTranslation {
		t.Error("the flag alone does not switch on")
	}
	if c := mustLoad(t, "", nil, "--regexp-image-translation=false"); c.RegexpImageTranslation {
		t.Error("=false does not switch off")
	}
}

func TestVirtletNames(t *testing.T) {
	c := mustLoad(t, "", []string{"VIRTLET_CNI_PLUGIN_DIR=/virtlet", "VIRTLET_DOWNLOAD_PROTOCOL=http", "VIRTLET_IMAGE_TRANSLATIONS_DIR=/etc/virtlet/images"})
	if !slices.Equal(c.CNIBinDirs, []string{"/virtlet"}) || c.DownloadProtocol != "http" || c.ImageTranslationDir != "/etc/virtlet/images" {
		t.Errorf("%+v", c)
	}
	if got := origin(c, "download-protocol"); !strings.Contains(string(got), "VIRTLET_DOWNLOAD_PROTOCOL") {
		t.Errorf("origin is %q", got)
	}
	c = mustLoad(t, "", []string{"VIRTLET_DOWNLOAD_PROTOCOL=http", "QEMULET_DOWNLOAD_PROTOCOL=https"})
	if c.DownloadProtocol != "https" {
		t.Error("Virtlet's name counts more than ours")
	}
}

// Each error names the setting, the value, where it is and what is accepted.
func TestErrors(t *testing.T) {
	for name, test := range map[string]struct {
		file  string
		env   []string
		args  []string
		words []string
	}{
		"unknown key":        {file: "rundir: /x\nzzz: 1", words: []string{"config.yaml", "rundir, zzz", "no such setting", "run-dir"}},
		"no mapping":         {file: "- a\n- b", words: []string{"config.yaml", "mapping"}},
		"not YAML":           {file: "a: b: c", words: []string{"config.yaml"}},
		"twice":              {file: "accel: kvm\naccel: tcg", words: []string{"config.yaml", "accel"}},
		"wrong kind":         {file: "run-dir: 5", words: []string{"config.yaml", "run-dir: 5", "a number", "path"}},
		"text for a boolean": {file: "regexp-image-translation: yes please", words: []string{"regexp-image-translation", "a text", "bool"}},
		"empty":              {file: "run-dir:", words: []string{"run-dir", "empty", "path"}},
		"list with numbers":  {file: "cni-bin-dir: [1]", words: []string{"cni-bin-dir", "a number", "list of paths"}},
		"choice in file":     {file: "accel: hvf", words: []string{"accel: hvf", "auto, kvm, tcg"}},
		"relative path":      {env: []string{"QEMULET_RUN_DIR=run"}, words: []string{"QEMULET_RUN_DIR", `"run"`, "absolute path"}},
		"no address":         {env: []string{"QEMULET_STREAM_ADDRESS=0.0.0.0:10010"}, words: []string{"QEMULET_STREAM_ADDRESS", "one address of the node"}},
		"no port":            {env: []string{"QEMULET_STREAM_ADDRESS=127.0.0.1"}, words: []string{"QEMULET_STREAM_ADDRESS", "with a port"}},
		"open to everybody":  {file: `stream-address: "192.0.2.1:10010"`, words: []string{"stream-address", "192.0.2.1:10010", "loopback", "stream-tls-cert-file"}},
		"half a key pair":    {file: "stream-tls-key-file: /key", words: []string{"stream-tls-cert-file", "/key", "both or neither"}},
		"number":             {env: []string{"QEMULET_PARALLEL_PULLS=0"}, words: []string{"QEMULET_PARALLEL_PULLS", "from 1 to 64"}},
		"duration":           {file: "cni-timeout: 5", words: []string{"cni-timeout", "a number", "duration"}},
		"Virtlet's name":     {env: []string{"VIRTLET_DOWNLOAD_PROTOCOL=ftp"}, words: []string{"VIRTLET_DOWNLOAD_PROTOCOL", "https, http"}},
		"all at once":        {file: "accel: hvf\nnonsense: 1", env: []string{"QEMULET_LOG_FORMAT=xml"}, words: []string{"hvf", "nonsense", "xml"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, test.file, test.env, test.args...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range test.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not mentioned: %v", w, err)
				}
			}
		})
	}
}

func TestFlagErrors(t *testing.T) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(flags)
	err := flags.Parse([]string{"--accel", "hvf"})
	if err == nil || !strings.Contains(err.Error(), "--accel") || !strings.Contains(err.Error(), "auto, kvm, tcg") {
		t.Errorf("got %v", err)
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := Load(nil, []string{"QEMULET_CONFIG=/does/not/exist.yaml"}); err == nil || !strings.Contains(err.Error(), "/does/not/exist.yaml") {
		t.Errorf("a file that was named and is missing: %v", err)
	}
}

func TestValues(t *testing.T) {
	c := mustLoad(t, "run-dir: /r", nil, "--accel", "tcg")
	got := map[string]Value{}
	for range 2 { // asking changes nothing
		for _, v := range c.Values() {
			got[v.Name] = v
		}
	}
	for name, want := range map[string]string{"run-dir": "/r", "accel": "tcg", "cri-socket": "/r/cri.sock", "log-level": "info"} {
		if got[name].Value != want {
			t.Errorf("%s is %q, want %q", name, got[name].Value, want)
		}
	}
	if c.RunDir != "/r" || c.Accel != "tcg" {
		t.Errorf("asking changed the settings: %+v", c)
	}
	if len(got) != len(table(&Config{})) {
		t.Errorf("%d settings", len(got))
	}
}

func TestUnknownEnv(t *testing.T) {
	c := mustLoad(t, "", []string{"QEMULET_RUNDIR=/x", "QEMULET_RUN_DIR=/y", "QEMULET_SERVICE_HOST=10.0.0.1", "VIRTLET_X=", "OTHER=1", "QEMULET_CONFIG="})
	var want []string
	for _, name := range []string{"QEMULET_RUNDIR", "QEMULET_SERVICE_HOST", "VIRTLET_X"} {
		want = append(want, "environment variable "+name+" is no setting, is it mistyped?")
	}
	if !slices.Equal(c.Warnings, want) {
		t.Errorf("got %q", c.Warnings)
	}
}

// The help says everything: each setting has a text that begins small and
// does not end in a full stop, as cobra's own.
func TestUsage(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range table(&Config{}) {
		if s.usage == "" || strings.HasSuffix(s.usage, ".") {
			t.Errorf("%s: %q", s.name, s.usage)
		}
		if seen[s.name] {
			t.Errorf("%s is there twice", s.name)
		}
		seen[s.name] = true
	}
}

// All settings can be handed on as they are, to a daemon of the same settings.
func TestValuesAreAccepted(t *testing.T) {
	first, err := Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(flags)
	for _, v := range first.Values() {
		if err := flags.Set(v.Name, v.Value); err != nil {
			t.Errorf("--%s=%q: %v", v.Name, v.Value, err)
		}
	}
	if _, err := Load(flags, nil); err != nil {
		t.Error(err)
	}
}
