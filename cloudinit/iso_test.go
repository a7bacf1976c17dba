package cloudinit

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func writeISO(t testing.TB, label string, files []File) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteISO(&b, label, files); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "seed.iso")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs an oracle: a program that reads images and was not written here.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v (package genisoimage, xorriso or util-linux missing?)\n%s", name, args, err, out)
	}
	return string(out)
}

func sampleFiles() []File {
	return []File{
		{"user-data", []byte("#cloud-config\n")},
		{"meta-data", []byte(`{"instance-id":"a.b"}`)},
		{"network-config", bytes.Repeat([]byte("0123456789abcdef"), 400)},
		{"openstack/latest/user_data", []byte("x")},
		{"openstack/latest/meta_data.json", []byte("{}")},
		{"openstack/latest/network_data.json", nil},
		{"openstack/content/0000", bytes.Repeat([]byte{7}, sectorSize)},
		{"a/b/c/d/e/f/g/deep.txt", []byte("deep")},
		{"a name.with.dots", []byte("u")},
		{strings.Repeat("long", 16), []byte("l")},
	}
}

func paths(files []File) []string {
	var all []string
	for _, f := range files {
		all = append(all, "/"+f.Path)
	}
	slices.Sort(all)
	return all
}

// isoinfoFiles are the files that isoinfo finds in one of the trees.
func isoinfoFiles(t *testing.T, image, tree string) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(run(t, "isoinfo", "-i", image, tree, "-f")) {
		all = append(all, strings.TrimSuffix(line, "\n"))
	}
	slices.Sort(all)
	return all
}

func withDirs(files []File) []string {
	var all []string
	for _, f := range files {
		for p := "/" + f.Path; p != "/"; p = filepath.Dir(p) {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestISOTreesByIsoinfo(t *testing.T) {
	files := sampleFiles()
	image := writeISO(t, "cidata", files)
	for _, tree := range []string{"-R", "-J"} {
		if got, want := isoinfoFiles(t, image, tree), withDirs(files); !slices.Equal(got, want) {
			t.Errorf("isoinfo %s: got %q\nwant %q", tree, got, want)
		}
		for _, f := range files {
			cmd := exec.Command("isoinfo", "-i", image, tree, "-x", "/"+f.Path)
			if got, err := cmd.Output(); err != nil || !bytes.Equal(got, f.Data) {
				t.Errorf("isoinfo %s %s: %d bytes, %v; want %d bytes", tree, f.Path, len(got), err, len(f.Data))
			}
		}
	}
	info := run(t, "isoinfo", "-d", "-i", image)
	for _, want := range []string{"Volume id: cidata", "Joliet with UCS level 3 found", "Rock Ridge signatures version 1 found"} {
		if !strings.Contains(info, want) {
			t.Errorf("isoinfo -d: %q not found in\n%s", want, info)
		}
	}
}

// Level 1 identifiers, for what reads neither Rock Ridge nor Joliet.
func TestISOPlainNames(t *testing.T) {
	image := writeISO(t, "cidata", []File{{"user-data", nil}, {"user-database", nil}, {"a.b.json", nil}, {".hidden", nil}, {"A.B.JSO", nil}})
	out := strings.Fields(run(t, "isoinfo", "-i", image, "-f"))
	slices.Sort(out)
	want := []string{"/A_B.JSO;1", "/A_B0.JSO;1", "/USER_DA0.;1", "/USER_DAT.;1", "/_HIDDEN.;1"}
	if !slices.Equal(out, want) {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestISOByXorriso(t *testing.T) {
	files := sampleFiles()
	image := writeISO(t, "config-2", files)
	out := run(t, "xorriso", "-abort_on", "WARNING", "-return_with", "WARNING", "32", "-report_about", "WARNING", "-indev", image, "-find", "/", "-type", "f", "-exec", "echo")
	var got []string
	for line := range strings.Lines(out) {
		if quoted := strings.TrimSpace(line); strings.HasPrefix(quoted, "'/") {
			got = append(got, strings.Trim(quoted, "'"))
		}
	}
	slices.Sort(got)
	if want := paths(files); !slices.Equal(got, want) {
		t.Errorf("xorriso: got %q\nwant %q", got, want)
	}
	target := filepath.Join(t.TempDir(), "out")
	run(t, "xorriso", "-abort_on", "WARNING", "-return_with", "WARNING", "32", "-osirrox", "on", "-indev", image, "-extract", "/", target)
	for _, f := range files {
		path := filepath.Join(target, f.Path)
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, f.Data) {
			t.Errorf("%s: %d bytes, %v; want %d bytes", f.Path, len(got), err, len(f.Data))
		}
		if st, err := os.Stat(path); err == nil && st.Mode() != 0o400 {
			t.Errorf("%s: mode %v, want 0400", f.Path, st.Mode())
		}
	}
}

// blkid is what cloud-init finds its seed with.
func TestISOByBlkid(t *testing.T) {
	for _, label := range []string{"cidata", "config-2"} {
		image := writeISO(t, label, []File{{"meta-data", nil}})
		if out := run(t, "blkid", "-p", "-o", "export", image); !strings.Contains(out, "LABEL="+label+"\n") || !strings.Contains(out, "TYPE=iso9660\n") {
			t.Errorf("blkid: %s", out)
		}
	}
}

func TestISODeterministic(t *testing.T) {
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := WriteISO(w, "cidata", sampleFiles()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) || a.Len()%sectorSize != 0 {
		t.Errorf("images differ, or are not whole sectors (%d bytes)", a.Len())
	}
}

// More entries than fit into a sector of a directory.
func TestISOManyFiles(t *testing.T) {
	var files []File
	for i := range 500 {
		files = append(files, File{fmt.Sprintf("dir-%d/file with a long name %d", i%7, i), []byte{byte(i)}})
	}
	image := writeISO(t, "cidata", files)
	for _, tree := range []string{"-R", "-J"} {
		if got, want := isoinfoFiles(t, image, tree), withDirs(files); !slices.Equal(got, want) {
			t.Errorf("isoinfo %s: %d files, want %d", tree, len(got), len(want))
		}
	}
}

func TestISORefuses(t *testing.T) {
	for name, c := range map[string]struct {
		label string
		files []File
		want  string
	}{
		"no label":        {"", nil, "label"},
		"long label":      {"12345678901234567", nil, "1 to 16"},
		"absolute":        {"x", []File{{"/a", nil}}, `"/a"`},
		"dots":            {"x", []File{{"a/../b", nil}}, `".." is not a name`},
		"twice":           {"x", []File{{"a", nil}, {"a", nil}}, "twice"},
		"file and dir":    {"x", []File{{"a", nil}, {"a/b", nil}}, `"a" is a file`},
		"dir and file":    {"x", []File{{"a/b", nil}, {"a", nil}}, "twice"},
		"too deep":        {"x", []File{{"1/2/3/4/5/6/7/8/f", nil}}, "up to 7 directories"},
		"long name":       {"x", []File{{strings.Repeat("n", 65), nil}}, "up to 64"},
		"bad character":   {"x", []File{{"a?b", nil}}, "not accepted"},
		"not UTF-8":       {"x", []File{{"a\xff", nil}}, "up to 64"},
		"empty path":      {"x", []File{{"", nil}}, "not a name"},
		"line break":      {"x", []File{{"a\nb", nil}}, "not accepted"},
		"label with byte": {"a b", nil, "ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			err := WriteISO(&b, c.label, c.files)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if b.Len() > 0 {
				t.Errorf("%d bytes written", b.Len())
			}
		})
	}
}

// Any tree that is accepted is read back by isoinfo just as it was.
func TestISOAnyTree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.StringMatching(`[a-zA-Z0-9._-]{1,20}`)
		path := rapid.Custom(func(rt *rapid.T) string {
			return strings.Join(rapid.SliceOfN(name, 1, 4).Draw(rt, "parts"), "/")
		})
		var files []File
		for _, p := range rapid.SliceOfNDistinct(path, 1, 12, rapid.ID[string]).Draw(rt, "paths") {
			files = append(files, File{p, []byte(p)})
		}
		var b bytes.Buffer
		if WriteISO(&b, "cidata", files) != nil {
			rt.Skip("not acceptable")
		}
		image := filepath.Join(t.TempDir(), "i.iso")
		if err := os.WriteFile(image, b.Bytes(), 0o600); err != nil {
			rt.Fatal(err)
		}
		for _, tree := range []string{"-R", "-J"} {
			if got, want := isoinfoFiles(t, image, tree), withDirs(files); !slices.Equal(got, want) {
				rt.Fatalf("isoinfo %s: got %q\nwant %q", tree, got, want)
			}
		}
	})
}

func TestCreateISO(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed.iso")
	for range 2 { // the second replaces the first
		if err := CreateISO(path, "cidata", sampleFiles()); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
	if err := CreateISO(filepath.Join(dir, "none", "seed.iso"), "cidata", nil); err == nil || !strings.Contains(err.Error(), "seed.iso") {
		t.Errorf("no directory: got %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := CreateISO(filepath.Join(dir, "taken"), "cidata", nil); err == nil {
		t.Error("a directory was replaced")
	}
	if all, _ := os.ReadDir(dir); len(all) != 2 {
		t.Errorf("left behind: %v", all)
	}
}

// From a seed to the durable image.
func BenchmarkSeed(b *testing.B) {
	seed := fullSeed(NoCloud)
	files, err := seed.Render()
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "seed.iso")
	for name, step := range map[string]func() error{
		"Render":    func() error { _, err := seed.Render(); return err },
		"WriteISO":  func() error { return WriteISO(io.Discard, "cidata", files) },
		"CreateISO": func() error { _ = os.Remove(path); return CreateISO(path, "cidata", files) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := step(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	dir := b.TempDir()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Path), f.Data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("genisoimage", func(b *testing.B) {
		for b.Loop() {
			run(b, "genisoimage", "-quiet", "-J", "-R", "-V", "cidata", "-o", path, dir)
		}
	})
}
