package images

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
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
	o := s.opts
	rules := s.rules()
	o.TranslationDir, o.NoRegexp, o.Protocol, o.FileDir = rules.TranslationDir, rules.NoRegexp, rules.Protocol, rules.FileDir
	return Explain(ctx, ref, o)
}

// Explain says what a store with these options would make of a name. It asks no
// other machine but the cluster's API server.
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
	e.Err = s.tryFetching(&e)
	return e, nil
}

// tryFetching goes as far as a pull can without asking another machine.
func (s *Store) tryFetching(e *Explanation) error {
	u, err := parseURL(e.Name, e.Resolution)
	if err != nil {
		return err
	}
	if u.Scheme == schemeFile {
		f, err := s.openLocal(u.Path)
		if err != nil {
			return err
		}
		return f.Close()
	}
	client, err := e.Profile.client(s.opts.Warn)
	if err != nil {
		return fmt.Errorf("transport %q: %w: %w", e.ProfileName, err, errdefs.ErrInvalidArgument)
	}
	client.CloseIdleConnections()
	return nil
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

// Checks lists the checksums that the image must have, in words.
func (e Explanation) Checks() []string {
	var checks []string
	if e.Name.Digest != "" {
		checks = append(checks, "sha256:"+e.Name.Digest+", from the name")
	}
	if e.Rule != nil && e.Rule.SHA256 != "" {
		checks = append(checks, "sha256:"+strings.ToLower(e.Rule.SHA256)+", from the rule")
	}
	if e.Profile.RequireSHA256SUMS {
		checks = append(checks, "the one in "+sumsName+" beside the image, which must be there")
	}
	return checks
}

// Describe says in words what the profile makes a download do.
func (p Profile) Describe() []string {
	timeout, redirects, proxy := "no time limit", defaultMaxRedirects, "the proxy of the daemon's environment, if any"
	if p.timeout() > 0 {
		timeout = fmt.Sprintf("at most %v", p.timeout())
	}
	if p.MaxRedirects != nil {
		redirects = max(*p.MaxRedirects, 0)
	}
	if p.Proxy != "" {
		proxy = "the proxy " + RedactURL(p.Proxy)
	}
	return append([]string{timeout, fmt.Sprintf("at most %d redirects", redirects), proxy}, p.TLS.describe()...)
}

func (p *TLSProfile) describe() []string {
	if p == nil {
		return []string{"the system's certificate authorities"}
	}
	var all []string
	if p.Insecure {
		all = append(all, "the server's certificate is NOT checked")
	}
	if n := len(p.Certificates); n > 0 {
		all = append(all, fmt.Sprintf("%d TLS certificates of its own", n))
	}
	if p.ServerName != "" {
		all = append(all, "the server must be "+p.ServerName)
	}
	return all
}

// TranslatedNames lists the names that a store with these options has exact rules
// for, without Prefix, in the order of the rules. Broken translations are left out.
func TranslatedNames(ctx context.Context, o Options) []string {
	o.Warn = func(error) {}
	var names []string
	for _, t := range (&Store{opts: o}).translations(ctx) {
		for _, r := range t.Rules {
			if r.Name != "" {
				names = append(names, path.Join(t.Prefix, r.Name))
			}
		}
	}
	return names
}
