package images

import (
	"context"
	"fmt"
)

// Step is one look at a translation, or at one of its rules.
type Step struct {
	// Source is the file or object.
	Source string
	// Rule counts from 1; 0 stands for the translation as a whole.
	Rule int
	// Pattern is what the rule is for: `name "cirros"`, `regexp "^(.*)$"`.
	Pattern string
	// Matched is true for the last step only, if any rule matched.
	Matched bool
	// Why says, when it did not match, for what reason.
	Why string
}

// Explanation says what a name leads to, and why.
type Explanation struct {
	// Name is how the name was understood.
	Name Name
	Resolution
	// Steps were taken in this order until a rule matched.
	Steps []Step
	// Problems are the broken translations that were skipped, or read in part.
	Problems []error
	// Err is why the URL cannot be fetched at all, whatever answers there.
	Err error
}

// Explain tells where a pull of the name would go now, and why. The error is an
// errdefs.ErrInvalidArgument: the name cannot be one.
func (s *Store) Explain(ctx context.Context, ref string) (Explanation, error) {
	return Explain(ctx, ref, s.opts)
}

// Explain says what a store with these options would make of a name. It touches
// nothing but the translations.
func Explain(ctx context.Context, ref string, o Options) (Explanation, error) {
	n, err := ParseName(ref)
	if err != nil {
		return Explanation{}, err
	}
	o.setDefaults()
	e := Explanation{Name: n}
	o.Warn = func(err error) { e.Problems = append(e.Problems, err) }
	s := &Store{opts: o}
	e.Resolution = Translate(n, s.translations(ctx), TranslateOptions{
		Protocol: o.Protocol, NoRegexp: o.NoRegexp, Warn: o.Warn,
		Trace: func(step Step) { e.Steps = append(e.Steps, step) },
	})
	_, e.Err = parseURL(n, e.Resolution)
	return e, nil
}

func (o TranslateOptions) trace(t *Translation, rule int, why string) {
	if o.Trace == nil {
		return
	}
	step := Step{Source: t.Source, Rule: rule, Why: why, Matched: why == ""}
	if rule > 0 {
		step.Pattern = t.Rules[rule-1].pattern()
	}
	o.Trace(step)
}

func (r *Rule) pattern() string {
	if r.Name != "" {
		return fmt.Sprintf("name %q", r.Name)
	}
	return fmt.Sprintf("regexp %q", r.Regexp)
}
