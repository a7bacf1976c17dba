// Package manual writes manual pages from what the programs say of themselves
// by --help, so that the two cannot disagree.
package manual

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// collection is what a page's head line calls the set it belongs to.
const collection = "qemulet"

// Command is the hidden command "man DIR" of a program of root's commands. It
// writes a page for each of them in the given section: qemulet-run.1 for
// "qemulet run".
func Command(root *cobra.Command, section string) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Long:   "Write the manual pages of " + root.Name() + " and its commands into the directory DIR, which is made.",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return writeTree(root, section, args[0])
		},
	}
}

func writeTree(root *cobra.Command, section, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true // or each page would end with the day it was made
	header := &doc.GenManHeader{Section: section, Source: root.Name() + " " + root.Version, Manual: collection}
	return doc.GenManTree(root, header, dir)
}

// Page is the page of a program whose help is one text.
type Page struct {
	// Name is the program's, Section the manual's, Short says in a few words
	// what the program is.
	Name, Section, Short string
	// Version is the program's.
	Version string
	// Help is what --help prints. It is shown as it stands.
	Help string
}

// Write writes the page into the directory, which is made.
func (p Page) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, p.Name+"."+p.Section), p.roff(), 0o644)
}

func (p Page) roff() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH %q %q %q %q %q\n", strings.ToUpper(p.Name), p.Section, "", p.Name+" "+p.Version, collection)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH DESCRIPTION\n.nf\n", p.Name, escape(p.Short))
	b.WriteString(escape(strings.TrimRight(p.Help, "\n")))
	b.WriteString("\n.fi\n")
	return b.Bytes()
}

// escape keeps troff from reading a text: it begins its requests with a dot or
// an apostrophe, its escapes with a backslash, and prints a bare hyphen as one
// that cannot be copied into a shell.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
