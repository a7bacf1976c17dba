package config

import (
	"fmt"
	"strings"
)

// Markdown is the tables of docs/configuration.md: all settings, and what became
// of Virtlet's.
func Markdown() (settings, virtlet string) {
	return settingsTable(), virtletTable()
}

func settingsTable() string {
	var b strings.Builder
	b.WriteString("| Setting | Kind | Default | Changes | Meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range table(&Config{}) {
		when := "restart"
		switch {
		case s.live:
			when = "at once"
		case s.local:
			when = "restart; node only"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.name, cell(s.value.Type()), code(s.value.String()), when, cell(s.usage))
	}
	return b.String()
}

func virtletTable() string {
	var b strings.Builder
	b.WriteString("| Variable | Key in `virtlet-config` | Field in a mapping | Flag | Here |\n| --- | --- | --- | --- | --- |\n")
	for _, v := range virtletNames {
		here := "`" + v.setting + "`"
		switch {
		case v.gone != "":
			here = "no effect: " + v.gone
		case v.differs != "":
			here += ": " + v.differs
		}
		flag := v.flag
		if flag != "" {
			flag = "--" + flag
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code(v.env), code(v.key), code(v.field), code(flag), cell(here))
	}
	return b.String()
}

// code is empty for what is empty.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
