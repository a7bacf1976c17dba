// Package store keeps what must survive the daemon: a record for each sandbox
// and each container, and the boot in which they were last seen.
//
// A record is written before an external effect (a namespace, a disk, a
// process) and again after it, so that whatever instruction the daemon died
// at, the next start finds what was intended. Every Put and Delete is durable
// when it returns.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Version is the layout of the records. A database of a newer one is refused
// untouched.
const Version = 1

var (
	bucketMeta       = []byte("meta")
	bucketSandboxes  = []byte("sandboxes")
	bucketContainers = []byte("containers")
)

// DB is an open database. Its methods may be called concurrently.
type DB struct{ bolt *bolt.DB }

// Open opens or creates the database file, which only one process can hold.
// The caller closes it.
func Open(path string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	b, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("database %s is held by another process: is another daemon running with the same state directory?", path)
	case err != nil:
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	db := &DB{bolt: b}
	if err := db.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), b.Close())
	}
	return db, nil
}

// Close releases the file.
func (db *DB) Close() error { return db.bolt.Close() }

func (db *DB) prepare() error {
	return db.bolt.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketSandboxes, bucketContainers} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return checkVersion(tx.Bucket(bucketMeta))
	})
}

func checkVersion(meta *bolt.Bucket) error {
	key := []byte("version")
	raw := meta.Get(key)
	if raw == nil {
		return meta.Put(key, fmt.Appendf(nil, "%d", Version))
	}
	var v int
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("version %q is not a number: %w", raw, err)
	}
	if v > Version {
		return fmt.Errorf("its records have version %d, this daemon reads up to %d: install the newer daemon again", v, Version)
	}
	return nil
}

// BootID returns the boot in which the records were last reconciled, "" at first.
func (db *DB) BootID() (string, error) {
	var id string
	err := db.bolt.View(func(tx *bolt.Tx) error {
		id = string(tx.Bucket(bucketMeta).Get([]byte("boot")))
		return nil
	})
	return id, err
}

// SetBootID records the boot.
func (db *DB) SetBootID(id string) error {
	return db.bolt.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).Put([]byte("boot"), []byte(id))
	})
}

// PutSandbox writes the sandbox's record.
func (db *DB) PutSandbox(s *Sandbox) error { return db.put(bucketSandboxes, s.ID, s) }

// DeleteSandbox removes the record; an unknown id is no error.
func (db *DB) DeleteSandbox(id string) error { return db.delete(bucketSandboxes, id) }

// Sandboxes returns all readable records. Those that cannot be read are named
// in the error, and never keep the others from being returned.
func (db *DB) Sandboxes() ([]*Sandbox, error) { return all[Sandbox](db, bucketSandboxes) }

// PutContainer writes the container's record.
func (db *DB) PutContainer(c *Container) error { return db.put(bucketContainers, c.ID, c) }

// DeleteContainer removes the record; an unknown id is no error.
func (db *DB) DeleteContainer(id string) error { return db.delete(bucketContainers, id) }

// Containers returns all readable records, like Sandboxes.
func (db *DB) Containers() ([]*Container, error) { return all[Container](db, bucketContainers) }

func (db *DB) put(bucket []byte, id string, record any) error {
	raw, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("record %s: %w", id, err)
	}
	err = db.bolt.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put([]byte(id), raw) })
	if err != nil {
		return fmt.Errorf("record %s: %w", id, err)
	}
	return nil
}

func (db *DB) delete(bucket []byte, id string) error {
	err := db.bolt.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(id)) })
	if err != nil {
		return fmt.Errorf("record %s: %w", id, err)
	}
	return nil
}

func all[T any](db *DB, bucket []byte) (records []*T, err error) {
	var broken []error
	err = db.bolt.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(id, raw []byte) error {
			record := new(T)
			if err := json.Unmarshal(raw, record); err != nil {
				broken = append(broken, fmt.Errorf("record %s in %s: %w", id, bucket, err))
				return nil
			}
			records = append(records, record)
			return nil
		})
	})
	return records, errors.Join(append(broken, err)...)
}
