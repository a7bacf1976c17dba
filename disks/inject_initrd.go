package disks

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/qemulet/qemulet/disks/injector"
)

// selfPath is this program, also if its file was replaced meanwhile.
const selfPath = "/proc/self/exe"

// ErrDynamic is what an error is when this program cannot run inside of the
// injecting machine.
var ErrDynamic = errors.New("this program is linked dynamically: build it with CGO_ENABLED=0 to write files into disks")

// writeInitrd writes the initial RAM disk of the machine.
func writeInitrd(w io.Writer, kernel injectKernel, files []InjectFile) error {
	c := newCPIO(w)
	for _, dir := range []string{"/dev", "/sys", "/root", injector.ModuleDir, injector.DataDir} {
		c.dir(dir)
	}
	if err := addSelf(c); err != nil {
		return err
	}
	for i, path := range kernel.modules {
		data, err := readModule(path)
		if err != nil {
			return fmt.Errorf("module %s: %w", path, err)
		}
		c.file(fmt.Sprintf("%s/%02d-%s.ko", injector.ModuleDir, i, moduleName(path)), 0o600, data)
	}
	job, err := json.Marshal(injectJob(files))
	if err != nil {
		return err
	}
	c.file(injector.JobPath, 0o600, job)
	for i, f := range files {
		c.file(fmt.Sprintf("%s/%d", injector.DataDir, i), 0o600, f.Data)
	}
	return c.close()
}

// addSelf makes this program the machine's first process.
func addSelf(c *cpio) error {
	data, err := os.ReadFile(selfPath)
	if err != nil {
		return err
	}
	program, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			return ErrDynamic
		}
	}
	c.file(injector.InitPath, 0o700, data)
	return nil
}

// readModule reads a module as the kernel takes it. Distributions compress them
// in three ways.
func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := io.Reader(f)
	switch {
	case strings.HasSuffix(path, ".gz"):
		r, err = gzip.NewReader(f)
	case strings.HasSuffix(path, ".xz"):
		r, err = xz.NewReader(f, xz.DefaultDictMax) // what xz -9 needs
	case strings.HasSuffix(path, ".zst"):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(f, zstd.WithDecoderConcurrency(1)); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
