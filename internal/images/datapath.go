package images

import "path/filepath"

// DataPath is where the data with this hex SHA-256 is kept, whether it is
// there or not. The file is to be opened for reading only.
func (s *Store) DataPath(hex string) string {
	return filepath.Join(s.dataDir, hex)
}
