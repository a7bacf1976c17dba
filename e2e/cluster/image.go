package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// containerImage is an image of one layer, as "docker save" would write it.
type containerImage struct {
	name       string
	entrypoint []string
	cmd        []string
	layer      bytes.Buffer
	tar        *tar.Writer
}

func newContainerImage(name string) *containerImage {
	i := &containerImage{name: name}
	i.tar = tar.NewWriter(&i.layer)
	return i
}

func (i *containerImage) file(name string, mode int64, data []byte) {
	i.tar.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data)), Typeflag: tar.TypeReg})
	i.tar.Write(data)
}

func (i *containerImage) dir(name string, mode int64) {
	i.tar.WriteHeader(&tar.Header{Name: name + "/", Mode: mode, Typeflag: tar.TypeDir})
}

func (i *containerImage) link(name, target string) {
	i.tar.WriteHeader(&tar.Header{Name: name, Linkname: target, Mode: 0o777, Typeflag: tar.TypeSymlink})
}

// finish returns the image's layer and its configuration; more is added to the configuration's "config".
func (i *containerImage) finish(more map[string]any) (layer, config []byte, err error) {
	if err := i.tar.Close(); err != nil {
		return nil, nil, err
	}
	run := map[string]any{"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, "Entrypoint": i.entrypoint, "Cmd": i.cmd}
	maps.Copy(run, more)
	config, err = json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z", "config": run,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hexDigest(i.layer.Bytes())}},
	})
	return i.layer.Bytes(), config, err
}

// write writes the image to a file.
func (i *containerImage) write(path string) error {
	layer, config, err := i.finish(nil)
	if err != nil {
		return err
	}
	name := hexDigest(config) + ".json"
	manifest, err := json.Marshal([]any{map[string]any{"Config": name, "RepoTags": []string{i.name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	out := newContainerImage("")
	out.file("manifest.json", 0o644, manifest)
	out.file(name, 0o644, config)
	out.file("layer.tar", 0o644, layer)
	if err := out.tar.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, out.layer.Bytes(), 0o644)
}

func hexDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func pauseContainer(tb testing.TB) *containerImage {
	tb.Helper()
	i := newContainerImage(pauseImage)
	i.entrypoint = []string{"/pause"}
	i.file("pause", 0o755, read(tb, program(tb, "pause")))
	return i
}

func busyboxContainer(tb testing.TB) *containerImage {
	tb.Helper()
	i := newContainerImage(BusyboxImage)
	i.cmd = []string{"sh"}
	for _, d := range []string{"bin", "etc", "root", "www"} {
		i.dir(d, 0o755)
	}
	i.dir("tmp", 0o1777)
	i.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/www:/bin/sh\ndefault:x:1000:1000::/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"))
	i.file("etc/group", 0o644, []byte("root:x:0:\nwww-data:x:33:\nusers:x:100:\ngrp-defined:x:50000:default\nnogroup:x:65534:\n"))
	busybox, err := exec.LookPath("busybox")
	must(tb, err)
	i.file("bin/busybox", 0o755, read(tb, busybox))
	i.file("www/index.html", 0o644, []byte("a page\n"))
	list, err := exec.Command(busybox, "--list").Output()
	must(tb, err)
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			i.link("bin/"+applet, "busybox")
		}
	}
	return i
}

func read(tb testing.TB, path string) []byte {
	tb.Helper()
	f, err := os.Open(path)
	must(tb, err)
	defer f.Close()
	data, err := io.ReadAll(f)
	must(tb, err)
	return data
}
