package images

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Rules are the Options that may change while the store is open; see there.
type Rules struct {
	TranslationDir string
	NoRegexp       bool
	Protocol       string
	FileDir        string
}

// SetRules has all pulls that begin from now on follow these rules. With an
// error nothing is changed.
func (s *Store) SetRules(r Rules) error {
	if err := checkProtocol(r.Protocol); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = &r
	return nil
}

// rules are those in force.
func (s *Store) rules() Rules {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		return *s.changed
	}
	return Rules{TranslationDir: s.opts.TranslationDir, NoRegexp: s.opts.NoRegexp, Protocol: s.opts.Protocol, FileDir: s.opts.FileDir}
}

// ProtocolNone is no protocol: a name that no rule translates cannot be pulled.
const ProtocolNone = "none"

func checkProtocol(p string) error {
	if p != "https" && p != "http" && p != schemeOCI && p != ProtocolNone {
		return fmt.Errorf("image store: protocol %q (accepted: https, http, oci, none): %w", p, errdefs.ErrInvalidArgument)
	}
	return nil
}
