package images

import (
	"fmt"
	"regexp"
	"strings"
)

// Translation is one configuration that maps image names to URLs. It is the
// whole of a translation file, and the spec of a VirtletImageMapping.
type Translation struct {
	// Source says where the configuration came from, for messages.
	Source string `json:"-"`
	// Prefix restricts the rules to names below "<prefix>/", and is taken off
	// before they are tried.
	Prefix string `json:"prefix,omitempty"`
	// Rules are tried in order, but all exact names before all regexps.
	Rules []Rule `json:"translations,omitempty"`
	// Transports are the profiles that rules name. "" is the default one.
	Transports map[string]Profile `json:"transports,omitempty"`
}

// Rule maps the names it matches to a URL.
type Rule struct {
	// Name matches a whole name. With ":tag" it matches that tag only.
	Name string `json:"name,omitempty"`
	// Regexp matches anywhere in the name without its tag, unless anchored.
	Regexp string `json:"regexp,omitempty"`
	// URL is the image's address; "$1" and "${name}" refer to Regexp's groups.
	URL string `json:"url"`
	// Transport is the name of a profile of the same configuration.
	Transport string `json:"transport,omitempty"`
	// SHA256 is the digest, in hex, that the image must have: of the file as the
	// server sends it, or of anything else that a digest in a name may stand for.
	SHA256 string `json:"sha256,omitempty"`
}

// Resolution is what a name was translated to.
type Resolution struct {
	// URL is where to fetch. It may hold credentials: print RedactURL of it.
	URL string
	// Profile is how to fetch.
	Profile Profile
	// ProfileName is the profile's name, "" for the default one.
	ProfileName string
	// Source and Rule say which rule matched; Rule is nil when none did and
	// the name itself is the URL.
	Source string
	Rule   *Rule
}

// describe says which rule has matched, "" if none has.
func (r Resolution) describe(url string) string {
	if r.Rule == nil {
		return ""
	}
	return fmt.Sprintf("rule %s of %s: %s", r.Rule.pattern(), r.Source, url)
}

// Translate finds the first rule that matches the name: the configurations in
// the order given, in each of them exact names before regexps. Without a match
// the name is the URL, unless the protocol is ProtocolNone: then there is none.
// A URL without "://" gets the protocol put in front.
// It touches no file and cannot fail: regexps that do not compile are passed to
// warn, and skipped.
func Translate(n Name, configs []Translation, o TranslateOptions) Resolution {
	for i := range configs {
		if res, ok := configs[i].match(n, o); ok {
			res.URL = withProtocol(res.URL, o.Protocol)
			return res
		}
	}
	if o.Protocol == ProtocolNone {
		return Resolution{}
	}
	return Resolution{URL: withProtocol(n.Path, o.Protocol)}
}

// TranslateOptions adjust Translate.
type TranslateOptions struct {
	// Protocol is that of Options.
	Protocol string
	// NoRegexp leaves out the regexp rules.
	NoRegexp bool
	// Warn gets the broken rules; it may be nil.
	Warn func(error)
	// Trace gets each step as it is taken; it may be nil.
	Trace func(Step)
}

func (o TranslateOptions) warn(err error) {
	if o.Warn != nil {
		o.Warn(err)
	}
}

func (t *Translation) match(n Name, o TranslateOptions) (Resolution, bool) {
	path := n.Path
	if t.Prefix != "" {
		var ok bool
		if path, ok = strings.CutPrefix(path, strings.TrimSuffix(t.Prefix, "/")+"/"); !ok {
			o.trace(t, 0, fmt.Sprintf("it is for names that begin with %q", strings.TrimSuffix(t.Prefix, "/")+"/"))
			return Resolution{}, false
		}
	}
	if i := t.matchName(path, n.Tag, o); i >= 0 {
		return t.resolution(&t.Rules[i], t.Rules[i].URL, o), true
	}
	return t.matchRegexp(path, o)
}

// matchName prefers a rule for the very tag to one for the name. It returns the
// rule's index, or -1.
func (t *Translation) matchName(path, tag string, o TranslateOptions) int {
	found := -1
	for i, r := range t.Rules {
		if r.Name == path+":"+tag {
			found = i
			break
		}
		if r.Name == path && found < 0 {
			found = i
		}
	}
	for i, r := range t.Rules {
		switch {
		case i == found:
			o.trace(t, i+1, "")
			return i
		case r.Name == path:
			o.trace(t, i+1, "a rule for the tag counts more")
		case r.Name != "":
			o.trace(t, i+1, "another name")
		}
	}
	return -1
}

func (t *Translation) matchRegexp(path string, o TranslateOptions) (Resolution, bool) {
	for i := range t.Rules {
		r := &t.Rules[i]
		if r.Name != "" || r.Regexp == "" {
			continue
		}
		if o.NoRegexp {
			o.trace(t, i+1, "regexps are switched off")
			continue
		}
		re, err := regexp.Compile(r.Regexp)
		if err != nil {
			o.trace(t, i+1, "it does not compile")
			o.warn(fmt.Errorf("translation %s: rule %d skipped: regexp: %w", t.Source, i+1, err))
			continue
		}
		if m := re.FindStringSubmatchIndex(path); m != nil {
			o.trace(t, i+1, "")
			return t.resolution(r, string(re.ExpandString(nil, r.URL, path, m)), o), true
		}
		o.trace(t, i+1, "it does not match")
	}
	return Resolution{}, false
}

// resolution looks the profile up. As in Virtlet an unknown one means plain
// defaults, but it is told.
func (t *Translation) resolution(r *Rule, url string, o TranslateOptions) Resolution {
	profile, known := t.Transports[r.Transport]
	if !known && r.Transport != "" {
		o.warn(fmt.Errorf("translation %s: a rule for %s names the transport %q, which is not there: the image is fetched with plain defaults",
			t.Source, r.pattern(), r.Transport))
	}
	return Resolution{
		URL: url, Profile: profile, ProfileName: r.Transport,
		Source: t.Source, Rule: r,
	}
}

func withProtocol(url, protocol string) string {
	if strings.Contains(url, "://") {
		return url
	}
	if protocol == ProtocolNone { // which is about names, and this is a rule's URL
		protocol = "https"
	}
	return protocol + "://" + url
}
