package vmpod

import (
	"errors"
	"slices"
)

// annotation is one that Virtlet's users write: its name, what it takes, and
// how it changes the settings. Settings are changed only by good values.
type annotation struct {
	name string
	// accepted is what the value has to be, in words.
	accepted string
	// initial is what goes without the annotation, in words.
	initial string
	// effect is what it is good for: sentences in Markdown.
	effect string
	// example is a value that is accepted, once the annotation is.
	example string
	// secret values are never shown in an error.
	secret bool
	// set takes the value over. Its error is the reason for refusing it.
	set func(s *Settings, value string) error
}

func known(name string) bool {
	return slices.ContainsFunc(annotations(), func(a annotation) bool { return a.name == name })
}

func defaultSettings() Settings {
	return Settings{
		VCPUs:      1,
		DiskDriver: DiskSCSI,
		CloudInit:  CloudInit{ImageType: NoCloud},
		Sources:    Sources{UserDataEncoding: Plain},
	}
}

// parse reads what is there. Annotations that are not there change nothing;
// most that are there and empty do.
func (s *Settings) parse(values map[string]string, bad *problems) {
	for _, a := range annotations() {
		value, there := values[a.name]
		if !there {
			continue
		}
		if err := a.set(s, value); err != nil {
			bad.annotation(a, value, err)
		}
	}
	s.agree(bad)
	s.agreeSources(bad)
}

func (p *problems) annotation(a annotation, value string, err error) {
	var within *Error
	if errors.As(err, &within) {
		*p = append(*p, within.Problems...)
		return
	}
	if a.secret {
		value = ""
	}
	accepted := a.accepted
	if errors.Is(err, errNotYet) {
		accepted = "" // nothing would be
	}
	p.add(a.name, value, err.Error(), accepted)
	(*p)[len(*p)-1].Annotation = true
}

// NotShown stands for a value that may be secret.
const NotShown = "(not shown)"

// Shown are those annotations that are known, for people: NotShown is in place of
// values that may be secret. Others may hold anything, and are left out.
func Shown(values map[string]string) map[string]string {
	shown := map[string]string{}
	for _, a := range annotations() {
		value, there := values[a.name]
		if there && a.secret {
			value = NotShown
		}
		if there {
			shown[a.name] = value
		}
	}
	return shown
}
