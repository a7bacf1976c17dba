package qmpshell

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	goqemu "github.com/digitalocean/go-qemu/qmp"

	"github.com/qemulet/qemulet/qmp"
)

// The shell's own words.
const (
	wordHelp = "help"
	wordExit = "exit"
	wordInfo = "info" // the human monitor's
)

var ownWords = []string{wordExit, wordHelp, wordInfo}

const helpText = `COMMAND KEY=VALUE... sends a command of QMP. a.b=c leads into an object; a value
may be JSON; one JSON object may stand for all arguments.
info WORD... asks the human monitor. help COMMAND lists arguments. exit, or
Ctrl-D, leaves. Tab completes. Events are printed as they come.
`

// errLeft ends the shell.
var errLeft = errors.New("the person has left the shell")

// Shell reads commands and prints what QEMU answers.
type Shell struct {
	conn   *qmp.Conn
	schema *Schema
	out    io.Writer // one Write for each thing that is printed
}

// New makes a shell. conn stays the caller's. Writes to out come from several
// goroutines, and must not mix.
func New(ctx context.Context, conn *qmp.Conn, out io.Writer) (*Shell, error) {
	schema, err := LoadSchema(ctx, conn)
	if err != nil {
		return nil, err
	}
	return &Shell{conn: conn, schema: schema, out: out}, nil
}

// Run sends a command and prints the answer as indented JSON.
func Run(ctx context.Context, conn *qmp.Conn, c Command, out io.Writer) error {
	var answer json.RawMessage
	if err := conn.Do(ctx, c.Name, c.Args, &answer); err != nil {
		return err
	}
	return printJSON(out, answer)
}

func printJSON(out io.Writer, raw json.RawMessage) error {
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", "  "); err != nil {
		return err
	}
	text.WriteByte('\n')
	_, err := out.Write(text.Bytes())
	return err
}

// line does what one line says.
func (s *Shell) line(ctx context.Context, line string) error {
	line = strings.TrimSpace(line)
	first, rest, _ := strings.Cut(line, " ")
	switch first {
	case "":
		return nil
	case wordExit:
		return errLeft
	case wordHelp:
		return s.help(strings.TrimSpace(rest))
	case wordInfo:
		return s.info(ctx, line)
	}
	if strings.HasPrefix(first, "#") {
		return nil
	}
	words, err := Split(line)
	if err != nil {
		return err
	}
	c, err := Parse(words)
	if err != nil {
		return err
	}
	return Run(ctx, s.conn, c, s.out)
}

func (s *Shell) help(command string) error {
	text := helpText
	if command != "" {
		if !s.schema.Has(command) {
			return fmt.Errorf("help %s: QEMU has no such command", command)
		}
		text = s.schema.Usage(command) + "\n"
	}
	_, err := io.WriteString(s.out, text)
	return err
}

// info prints what the human monitor says, for people to read.
func (s *Shell) info(ctx context.Context, line string) error {
	text, err := s.conn.HumanMonitorCommand(ctx, line)
	if err != nil {
		return err
	}
	_, err = io.WriteString(s.out, strings.ReplaceAll(text, "\r\n", "\n"))
	return err
}

// events prints events until the subscription ends.
func (s *Shell) events(sub *qmp.Subscription) {
	for e := range sub.C {
		fmt.Fprint(s.out, eventText(e))
		if sub.Lagged() {
			fmt.Fprint(s.out, "event: some were dropped, they came faster than they could be printed\n")
		}
	}
}

func eventText(e goqemu.Event) string {
	at := fmt.Sprintf("%d.%06d", e.Timestamp.Seconds, e.Timestamp.Microseconds)
	if len(e.Data) == 0 {
		return fmt.Sprintf("event %s %s\n", at, e.Event)
	}
	data, _ := json.Marshal(e.Data) // it was JSON
	return fmt.Sprintf("event %s %s %s\n", at, e.Event, data)
}

// eventsKept wait while the terminal is busy.
const eventsKept = 256

// loop does what lines say, until read ends or the connection does. failed hears of
// commands that were refused, which end nothing.
func (s *Shell) loop(ctx context.Context, read func() (string, error), failed func(error)) error {
	sub := s.conn.Subscribe(eventsKept, nil)
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		s.events(sub)
	}()
	defer func() {
		sub.Close()
		<-printed
	}()
	for {
		text, err := read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch err := s.line(ctx, text); {
		case errors.Is(err, errLeft):
			return nil
		case err != nil:
			failed(err)
			if gone := s.conn.Err(); gone != nil {
				return gone
			}
		}
	}
}

// ErrFailed says that at least one command of a script was refused. What was wrong
// has been told.
var ErrFailed = errors.New("a command has failed")

// Script reads commands from in, one to a line. Refusals are written to problems,
// each with the number of its line, and end in ErrFailed.
func (s *Shell) Script(ctx context.Context, in io.Reader, problems io.Writer) error {
	lines, number := bufio.NewScanner(in), 0
	lines.Buffer(nil, 1<<20)
	read := func() (string, error) {
		if !lines.Scan() {
			if err := lines.Err(); err != nil {
				return "", err
			}
			return "", io.EOF
		}
		number++
		return lines.Text(), nil
	}
	var any error
	err := s.loop(ctx, read, func(err error) {
		any = ErrFailed
		fmt.Fprintf(problems, "line %d: %v\n", number, err)
	})
	if err != nil {
		return err
	}
	return any
}
