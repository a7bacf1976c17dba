package cloudinit

import "strings"

// EnvironmentFile is where a guest finds the variables of its container.
const EnvironmentFile = "/etc/cloud/environment"

// EnvVar is an environment variable.
type EnvVar struct{ Name, Value string }

// environment has a line KEY=VALUE for each variable, in order. The file can
// be sourced by a shell, and be an EnvironmentFile= of systemd.
func environment(vars []EnvVar) WriteFile {
	var b strings.Builder
	for _, v := range vars {
		b.WriteString(v.Name + "=" + quote(v.Value) + "\n")
	}
	return WriteFile{Path: EnvironmentFile, Mode: 0o644, Data: []byte(b.String())}
}

// plain are the characters, beside letters, digits and what is not ASCII, that
// mean nothing to a shell or to systemd in a value.
const plain = "_@%+=:,./-^"

// quote leaves simple values as they are. All others it puts between double
// quotes, where shells and systemd agree on the meaning of a backslash, and
// where a line break stays one.
func quote(value string) string {
	if strings.IndexFunc(value, needsQuotes) < 0 {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(value) + `"`
}

func needsQuotes(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r > 0xa0:
		return false
	}
	return !strings.ContainsRune(plain, r)
}
