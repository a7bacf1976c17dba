package api

import (
	"github.com/qemulet/qemulet/internal/images"
)

// Resolution says where an image would be fetched from, and why.
type Resolution struct {
	// Name is how the name was understood.
	Name string `json:"name"`
	// URL is without what may be secret.
	URL string `json:"url"`
	// Source and Rule, counted from 1, say which rule matched; "" and 0 when none
	// did, and the name itself is the URL.
	Source  string `json:"source,omitempty"`
	Rule    int    `json:"rule,omitempty"`
	Pattern string `json:"pattern,omitempty"`
	// Transport is the profile's name, "" for the default one; Settings are what
	// it says.
	Transport string   `json:"transport"`
	Settings  []string `json:"settings"`
	// Checks are the checksums that the image must have.
	Checks []string `json:"checks"`
	// Steps are the translations and rules that were looked at and did not match.
	Steps []Step `json:"steps"`
	// Problems are translations that are broken.
	Problems []string `json:"problems"`
	// Error is why nothing can be fetched from there.
	Error string `json:"error,omitempty"`
}

// Step is a translation (rule 0), or a rule of it, that did not match.
type Step struct {
	Source  string `json:"source"`
	Rule    int    `json:"rule"`
	Pattern string `json:"pattern,omitempty"`
	Why     string `json:"why"`
}

// NewResolution writes an explanation for people and programs.
func NewResolution(e images.Explanation) Resolution {
	r := Resolution{
		Name: e.Name.String(), URL: images.RedactURL(e.URL), Source: e.Source,
		Transport: e.ProfileName, Settings: e.Profile.Describe(), Checks: some(e.Checks()),
		Steps: []Step{}, Problems: []string{},
	}
	for _, s := range e.Steps {
		if s.Matched {
			r.Rule, r.Pattern = s.Rule, s.Pattern
			continue
		}
		r.Steps = append(r.Steps, Step{Source: s.Source, Rule: s.Rule, Pattern: s.Pattern, Why: s.Why})
	}
	for _, err := range e.Problems {
		r.Problems = append(r.Problems, err.Error())
	}
	if e.Err != nil {
		r.Error = e.Err.Error()
	}
	return r
}
