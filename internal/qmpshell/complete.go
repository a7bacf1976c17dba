package qmpshell

import (
	"slices"
	"strings"
)

// Complete offers what the word that ends at the end of line may become: a command,
// then its arguments, with = behind them, then their values. start is where the
// word begins. Words are sorted.
func (s *Schema) Complete(line string) (start int, words []string) {
	start = strings.LastIndexAny(line, " \t") + 1
	word := line[start:]
	before := strings.Fields(line[:start])
	var from []string
	switch key, _, valued := strings.Cut(word, "="); {
	case len(before) == 0:
		from = append(slices.Clone(s.commands), ownWords...)
	case len(before) == 1 && before[0] == wordHelp:
		from = s.commands
	case valued:
		for _, v := range s.values(before[0], key) {
			from = append(from, key+"="+v)
		}
	default:
		from = s.argumentsLeft(before)
	}
	for _, w := range from {
		if strings.HasPrefix(w, word) {
			words = append(words, w)
		}
	}
	slices.Sort(words)
	return start, words
}

// argumentsLeft are those that no word gives yet.
func (s *Schema) argumentsLeft(words []string) []string {
	var left []string
	for _, m := range s.arguments(words[0]) {
		given := func(w string) bool { return strings.HasPrefix(w, m.Name+"=") || strings.HasPrefix(w, m.Name+".") }
		if !slices.ContainsFunc(words[1:], given) {
			left = append(left, m.Name+"=")
		}
	}
	return left
}

// extend completes the line up to pos as far as that is certain. What is not is
// returned to be shown.
func (s *Schema) extend(line string, pos int) (newLine string, newPos int, choices []string) {
	start, words := s.Complete(line[:pos])
	if len(words) == 0 {
		return line, pos, nil
	}
	sure := commonPrefix(words)
	if len(words) == 1 && !strings.HasSuffix(sure, "=") {
		sure += " "
	}
	if sure == line[start:pos] {
		return line, pos, words
	}
	newLine = line[:start] + sure
	return newLine + line[pos:], len(newLine), nil
}

func commonPrefix(words []string) string {
	prefix := words[0]
	for _, w := range words[1:] {
		for !strings.HasPrefix(w, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return prefix
}
