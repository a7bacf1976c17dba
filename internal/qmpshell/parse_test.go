package qmpshell

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		`query-status`:                            ``,
		`qom-get path=/machine property=type`:     `{"path":"/machine","property":"type"}`,
		`x n=5 s="5" b=true z=null w=1G f=-1.5e3`: `{"b":true,"f":-1.5e3,"n":5,"s":"5","w":"1G","z":null}`,
		`x big=9007199254740993`:                  `{"big":9007199254740993}`,
		`x a.b=c a.d.e=1 f=2`:                     `{"a":{"b":"c","d":{"e":1}},"f":2}`,
		`x a={"b": [1, "two words"]} c=x=y`:       `{"a":{"b":[1,"two words"]},"c":"x=y"}`,
		`x {"a": {"b": 1}}`:                       `{"a": {"b": 1}}`,
		`x empty=`:                                `{"empty":""}`,
		`x s="a \" b"`:                            `{"s":"a \" b"}`,
	} {
		words, err := Split(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		c, err := Parse(words)
		if err != nil || string(c.Args) != want || c.Name != words[0] {
			t.Errorf("%s: %s %s, %v, want %s", line, c.Name, c.Args, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for line, want := range map[string]string{
		``:              "no command",
		`x a`:           `"a": KEY=VALUE`,
		`x =1`:          `"=1"`,
		`x a=1 a=2`:     `"a=2"`,
		`x a=null a=2`:  `"a=2"`,
		`x a=1 a.b=2`:   "a is a value already",
		`x a.b=1 a=2`:   `"a=2"`,
		`x a.=1`:        `"a.=1"`,
		`x {a} b`:       `"{a}"`,
		`x {"a":1}{`:    "not closed",
		`x "a`:          "not closed",
		`x {"a":nope}`:  "no valid JSON",
		`x {"a":1} b=2`: "KEY=VALUE",
	} {
		words, err := Split(line)
		if err == nil {
			_, err = Parse(words)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

const someSchema = `[
 {"name": "query-status", "meta-type": "command", "arg-type": "0", "ret-type": "9"},
 {"name": "query-block", "meta-type": "command", "arg-type": "0", "ret-type": "9"},
 {"name": "set_link", "meta-type": "command", "arg-type": "1"},
 {"name": "display", "meta-type": "command", "arg-type": "2"},
 {"name": "0", "meta-type": "object", "members": []},
 {"name": "1", "meta-type": "object", "members": [{"name": "up", "type": "bool", "default": null}, {"name": "name", "type": "str"}]},
 {"name": "2", "meta-type": "object", "members": [{"name": "type", "type": "3"}], "tag": "type", "variants": [{"case": "vnc", "type": "1"}]},
 {"name": "3", "meta-type": "enum", "values": ["vnc", "spice"]},
 {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
 {"name": "str", "meta-type": "builtin", "json-type": "string"}
]`

func TestComplete(t *testing.T) {
	s, err := parseSchema([]byte(someSchema))
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"":                        "display exit help info query-block query-status set_link",
		"query-s":                 "query-status",
		"help q":                  "query-block query-status",
		"set_link ":               "name= up=",
		"set_link name=x ":        "up=",
		"set_link up=":            "up=false up=true",
		"display type=v":          "type=vnc",
		"display t":               "type=",
		"display type=vnc n":      "name=",
		"query-status ":           "",
		"nonesuch ":               "",
		"set_link name=something": "",
	} {
		if _, words := s.Complete(line); strings.Join(words, " ") != want {
			t.Errorf("%q: %q, want %q", line, words, want)
		}
	}
}

func TestExtend(t *testing.T) {
	s, err := parseSchema([]byte(someSchema))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		line, rest, want string
		choices          []string
	}{
		{"q", "", "query-", nil},
		{"query-", "", "query-", []string{"query-block", "query-status"}},
		{"query-s", " x", "query-status  x", nil},
		{"display ty", "", "display type=", nil},
		{"display type=v", "", "display type=vnc ", nil},
		{"zzz", "", "zzz", nil},
	} {
		line, pos, choices := s.extend(test.line+test.rest, len(test.line))
		if line != test.want || !slices.Equal(choices, test.choices) || pos != len(line)-len(test.rest) {
			t.Errorf("%q: %q at %d, %q", test.line, line, pos, choices)
		}
	}
}

func TestUsage(t *testing.T) {
	s, err := parseSchema([]byte(someSchema))
	if err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{
		"set_link": "set_link name=string [up=boolean]",
		"display":  "display type=vnc|spice [up=boolean] [name=string]",
	} {
		if got := s.Usage(command); got != want {
			t.Errorf("%s: %s", command, got)
		}
	}
}

// Whatever a person types, there is a command with JSON for arguments, or an error.
func FuzzParse(f *testing.F) {
	f.Add(`x a.b={"c": "d e"} f=1`)
	f.Add(`x {"a": 1}`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Split(line)
		if err != nil {
			return
		}
		if c, err := Parse(words); err == nil && c.Args != nil && !json.Valid(c.Args) {
			t.Errorf("%q: %s", line, c.Args)
		}
	})
}
