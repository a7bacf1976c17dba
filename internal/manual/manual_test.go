package manual

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{Use: "prog", Short: "Does it", Long: "prog does it.", Version: "1.2.3"}
	sub := &cobra.Command{Use: "sub THING", Short: "Do a thing", Example: "  prog sub x --dry-run", Run: func(*cobra.Command, []string) {}}
	sub.Flags().Bool("dry-run", false, "say it only")
	root.AddCommand(sub, Command(root, "1"))
	return root
}

func TestCommandWritesAPageForEachCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	root := newRoot()
	root.SetArgs([]string{"man", dir})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	text := render(t, filepath.Join(dir, "prog-sub.1"))
	for _, want := range []string{"PROG-SUB(1)", "prog 1.2.3", "Do a thing", "prog sub THING", "--dry-run", "say it only", "prog sub x --dry-run"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "prog.1")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "prog-man.1")); err == nil {
		t.Error("the hidden command has a page")
	}
}

func TestPageShowsHelpAsItStands(t *testing.T) {
	help := "Usage:\n  prog -x 'a\\b'\n.hidden is shown\n'and this'\n"
	dir := filepath.Join(t.TempDir(), "man")
	if err := (Page{Name: "prog", Section: "8", Short: "does it", Version: "1", Help: help}).Write(dir); err != nil {
		t.Fatal(err)
	}
	text := render(t, filepath.Join(dir, "prog.8"))
	for line := range strings.Lines(help) {
		if !strings.Contains(text, strings.TrimRight(line, "\n")) {
			t.Errorf("the page lacks %q:\n%s", line, text)
		}
	}
}

// render is what a person sees; without troff, what the file says.
func render(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("no groff to render the page with")
	}
	cmd := exec.Command("groff", "-t", "-man", "-Tascii", "-P-cbou", "-ww", path)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("groff: %v: %s\n%s", err, complaints.String(), raw)
	}
	return string(out)
}
