package disks

// tail keeps the last bytes that are written to it.
type tail struct{ b []byte }

const tailLen = 4096

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	if len(t.b) > tailLen {
		t.b = t.b[len(t.b)-tailLen:]
	}
	return len(b), nil
}

func (t *tail) String() string { return string(t.b) }
