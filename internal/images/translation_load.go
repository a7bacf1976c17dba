package images

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// maxTranslationFile bounds a translation file, in bytes; a ConfigMap cannot be larger.
const maxTranslationFile = 1 << 20

// LoadTranslations reads all regular files of a directory, sorted by name.
// Files that begin with a dot are left out: a mounted ConfigMap keeps its
// versions in such directories. What cannot be read or parsed is passed to
// warn, and skipped. A missing directory is an empty one.
func LoadTranslations(dir string, warn func(error)) []Translation {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			warn(fmt.Errorf("image translations: %w", err))
		}
		return nil
	}
	var all []Translation
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		t, ok, err := loadTranslation(filepath.Join(dir, e.Name()))
		if err != nil {
			warn(err)
		}
		if ok {
			all = append(all, t)
		}
	}
	return all
}

// loadTranslation reads one file. An error with ok set names keys that are not
// known; the rest of the file counts.
func loadTranslation(path string) (_ Translation, ok bool, _ error) {
	// Stat, not the directory entry: the files of a ConfigMap are symlinks.
	fi, err := os.Stat(path)
	if err != nil {
		return Translation{}, false, fmt.Errorf("image translation skipped: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return Translation{}, false, nil
	}
	text, err := readLimited(path, maxTranslationFile)
	if err != nil {
		return Translation{}, false, fmt.Errorf("image translation skipped: %w", err)
	}
	t, err := ParseTranslation(path, text)
	if err == nil {
		return t, true, nil
	}
	var unknown *UnknownKeysError
	return t, errors.As(err, &unknown), err
}

// UnknownKeysError says that a translation was understood but for some keys.
type UnknownKeysError struct {
	Source string
	Err    error
}

func (e *UnknownKeysError) Error() string {
	return fmt.Sprintf("image translation %s: %v (ignored)", e.Source, e.Err)
}

func (e *UnknownKeysError) Unwrap() error { return e.Err }

// ParseTranslation parses YAML or JSON. Unknown keys give a usable translation
// beside an *UnknownKeysError.
func ParseTranslation(source string, text []byte) (Translation, error) {
	var t Translation
	strict := yaml.UnmarshalStrict(text, &t)
	if strict == nil {
		t.Source = source
		return t, t.validate()
	}
	t = Translation{}
	if err := yaml.Unmarshal(text, &t); err != nil {
		return Translation{}, fmt.Errorf("image translation %s skipped: %w", source, err)
	}
	t.Source = source
	if err := t.validate(); err != nil {
		return Translation{}, err
	}
	return t, &UnknownKeysError{Source: source, Err: strict}
}

func (t *Translation) validate() error {
	for i, r := range t.Rules {
		if r.URL == "" {
			return fmt.Errorf("image translation %s skipped: rule %d has no url", t.Source, i+1)
		}
		if r.Name == "" && r.Regexp == "" {
			return fmt.Errorf("image translation %s skipped: rule %d has neither name nor regexp", t.Source, i+1)
		}
		if r.SHA256 != "" && !isHexDigest(strings.ToLower(r.SHA256)) {
			return fmt.Errorf("image translation %s skipped: rule %d: sha256 %q (accepted: 64 hex digits)", t.Source, i+1, r.SHA256)
		}
	}
	return nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return text, nil
}
