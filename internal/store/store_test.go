package store

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func open(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestRecordsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "test.db")
	db := open(t, path)

	config := &runtimeapi.PodSandboxConfig{
		Metadata:    &runtimeapi.PodSandboxMetadata{Name: "web", Uid: "u"},
		Annotations: map[string]string{"a": "b\n\"c\"", "é": "ü"},
	}
	// A field of a future CRI version.
	config.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 4000, protowire.VarintType), 7))
	want := &Sandbox{
		ID: "s1", Phase: SandboxReady, Handler: "h", Created: time.Now().UTC().Round(0), NetnsName: "n",
		Config: Message[*runtimeapi.PodSandboxConfig]{config}, Network: []byte(`{"x":1}`),
		IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::1")},
	}
	if err := db.PutSandbox(want); err != nil {
		t.Fatal(err)
	}
	c := &Container{ID: "c1", SandboxID: "s1", Phase: ContainerRunning, Process: []byte(`{"PID":4}`),
		Config: Message[*runtimeapi.ContainerConfig]{&runtimeapi.ContainerConfig{LogPath: "x/0.log"}}}
	if err := db.PutContainer(c); err != nil {
		t.Fatal(err)
	}
	if err := db.SetBootID("boot"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	db = open(t, path)
	sandboxes, err := db.Sandboxes()
	if err != nil || len(sandboxes) != 1 {
		t.Fatalf("Sandboxes() = %v, %v", sandboxes, err)
	}
	got := sandboxes[0]
	if !proto.Equal(got.Config.M, config) {
		t.Errorf("config came back as %v", got.Config.M)
	}
	got.Config, want.Config = Message[*runtimeapi.PodSandboxConfig]{}, Message[*runtimeapi.PodSandboxConfig]{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sandbox came back as %+v, want %+v", got, want)
	}
	containers, err := db.Containers()
	if err != nil || len(containers) != 1 || containers[0].Config.M.LogPath != "x/0.log" || string(containers[0].Process) != `{"PID":4}` {
		t.Errorf("Containers() = %+v, %v", containers, err)
	}
	if boot, err := db.BootID(); boot != "boot" || err != nil {
		t.Errorf("BootID() = %q, %v", boot, err)
	}
	for range 2 {
		if err := db.DeleteSandbox("s1"); err != nil {
			t.Fatal(err)
		}
		if err := db.DeleteContainer("c1"); err != nil {
			t.Fatal(err)
		}
	}
	if s, _ := db.Sandboxes(); len(s) != 0 {
		t.Errorf("deleted sandbox is still there: %v", s)
	}
}

func TestBrokenRecordIsNamedAndSkipped(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "test.db"))
	if err := db.PutContainer(&Container{ID: "good", Config: Message[*runtimeapi.ContainerConfig]{&runtimeapi.ContainerConfig{}}}); err != nil {
		t.Fatal(err)
	}
	err := db.bolt.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketContainers)
		if err := b.Put([]byte("half"), []byte(`{"ID":"half","Con`)); err != nil {
			return err
		}
		return b.Put([]byte("odd"), []byte(`{"ID":"odd","Config":"////"}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := db.Containers()
	if len(got) != 1 || got[0].ID != "good" {
		t.Errorf("Containers() = %v", got)
	}
	for _, name := range []string{"half", "odd", "containers"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
	}
}

func TestSecondOpenSaysWhoHoldsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	open(t, path)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("Open of a held database: %v", err)
	}
}

func TestNewerVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	db := open(t, path)
	err := db.bolt.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put([]byte("version"), []byte("99")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("Open of a newer database: %v", err)
	}
}

func BenchmarkPutContainer(b *testing.B) {
	db, err := Open(filepath.Join(b.TempDir(), "test.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	c := &Container{ID: "c", Config: Message[*runtimeapi.ContainerConfig]{&runtimeapi.ContainerConfig{Command: make([]string, 50)}}}
	for b.Loop() {
		if err := db.PutContainer(c); err != nil {
			b.Fatal(err)
		}
	}
}
