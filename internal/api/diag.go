package api

import (
	"fmt"
	"os"
	"path/filepath"
)

// DiagPath answers GET with a Diagnosis.
const DiagPath = "/v1/diag"

// Diagnosis is what there is to know of a node, without secrets: texts by their
// relative paths.
type Diagnosis struct {
	Files map[string]string `json:"files"`
}

// Write writes the files below dir, which is made if it is not there. Only the
// caller can read them.
func (d Diagnosis) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // no path leads out of it
	if err != nil {
		return err
	}
	defer root.Close()
	for path, text := range d.Files {
		if err := root.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("diagnosis: %w", err)
		}
		if err := root.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("diagnosis: %w", err)
		}
	}
	return nil
}
