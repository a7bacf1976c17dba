package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Mapping is a translation that is an object of the cluster, a
// VirtletImageMapping.
type Mapping struct {
	// Name says which object it is, for messages and for the order.
	Name string
	// Spec is the translation in JSON.
	Spec []byte
}

// translations are all that count for a pull now: those of objects before those
// of files, each sorted by name.
func (s *Store) translations(ctx context.Context) []Translation {
	all := s.mapped(ctx)
	return append(all, LoadTranslations(s.rules().TranslationDir, s.opts.Warn)...)
}

// mapped reads the objects. Without them the files count alone.
func (s *Store) mapped(ctx context.Context) []Translation {
	if s.opts.Mappings == nil {
		return nil
	}
	mappings, err := s.opts.Mappings(ctx)
	if err != nil {
		s.opts.Warn(fmt.Errorf("image translations: only those of files count: %w", err))
		return nil
	}
	slices.SortFunc(mappings, func(a, b Mapping) int { return strings.Compare(a.Name, b.Name) })
	var all []Translation
	for _, m := range mappings {
		t, err := ParseTranslation(m.Name, m.Spec)
		if err != nil {
			s.opts.Warn(err)
		}
		var unknown *UnknownKeysError
		if err == nil || errors.As(err, &unknown) {
			all = append(all, t)
		}
	}
	return all
}
