// Package expansion replaces $(NAME) in a manifest's texts, by Kubernetes' rules
// (page "Define Dependent Environment Variables").
package expansion

import "strings"

// Expand replaces $(NAME) by known values and $$ by $, and leaves the rest alone;
// unknown are the names that it does not know.
func Expand(s string, values map[string]string) (expanded string, unknown []string) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			b.WriteString(s)
			return b.String(), unknown
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		switch s[0] {
		case '$':
			b.WriteByte('$')
			s = s[1:]
		case '(':
			s, unknown = reference(&b, s, values, unknown)
		default:
			b.WriteByte('$')
		}
	}
}

// reference writes what "(NAME)" at the beginning of s stands for and returns the
// rest.
func reference(b *strings.Builder, s string, values map[string]string, unknown []string) (string, []string) {
	end := strings.IndexByte(s, ')')
	if end < 0 {
		b.WriteByte('$')
		return s, unknown
	}
	name := s[1:end]
	if value, ok := values[name]; ok {
		b.WriteString(value)
	} else {
		b.WriteString("$" + s[:end+1])
		unknown = append(unknown, name)
	}
	return s[end+1:], unknown
}
