package vmpod

import (
	"errors"
	"fmt"
	"strings"
)

// The annotations that speak of objects.
const (
	userDataSource   = "VirtletCloudInitUserDataSource"
	userDataKey      = "VirtletCloudInitUserDataSourceKey"
	userDataEncoding = "VirtletCloudInitUserDataSourceEncoding"
	sshKeySource     = "VirtletSSHKeySource"

	// FilesAnnotation names the object whose data are Settings.Files.
	FilesAnnotation = "VirtletFilesFromDataSource"
)

// defaultSSHKey is where VirtletSSHKeySource looks when it names no key.
const defaultSSHKey = "authorized_keys"

// ObjectKind is a kind of object that holds data.
type ObjectKind string

// The kinds, as Kubernetes calls them.
const (
	ConfigMap ObjectKind = "ConfigMap"
	Secret    ObjectKind = "Secret"
)

// Object is a ConfigMap or Secret of the pod's namespace. Whether its name can
// be one is for those to check who look for it.
type Object struct {
	Kind ObjectKind
	Name string
}

func (o Object) String() string { return string(o.Kind) + " " + shorten(o.Name) }

// Ref is an annotation that names an object.
type Ref struct {
	Object
	// Annotation is its name, Value what it says.
	Annotation, Value string
	// Key is the object's key that counts, where that is just one.
	Key string
}

// Problem is that something is wrong with the object.
func (r *Ref) Problem(reason string) Problem {
	return Problem{Annotation: true, Field: r.Annotation, Value: shorten(r.Value), Reason: reason}
}

// Sources are what annotations say of objects. What those hold is taken over
// by Settings.WithData.
type Sources struct {
	// UserData, SSHKeys and Files are nil where no annotation names an object.
	UserData, SSHKeys, Files *Ref
	// UserDataKey is the key whose value is user-data itself; nil is none.
	UserDataKey *string
	// UserDataEncoding is how that value is written.
	UserDataEncoding Encoding
	// Overwrite lets the other annotations replace what objects hold, which
	// they join otherwise.
	Overwrite bool
}

// Encoding is how a value of an object is written.
type Encoding string

// The encodings: as it is, and base64 with the standard alphabet and padding.
const (
	Plain  Encoding = "plain"
	Base64 Encoding = "base64"
)

// Refs are all annotations that name an object, in the order of the table.
func (s *Sources) Refs() []*Ref {
	var all []*Ref
	for _, r := range []*Ref{s.UserData, s.SSHKeys, s.Files} {
		if r != nil {
			all = append(all, r)
		}
	}
	return all
}

func setOverwrite(s *Settings, value string) error {
	s.Sources.Overwrite = isTrue(value)
	return nil
}

func setUserDataSource(s *Settings, value string) (err error) {
	if value != "" {
		s.Sources.UserData, err = objectRef(userDataSource, value)
	}
	return err
}

func setUserDataKey(s *Settings, value string) error {
	s.Sources.UserDataKey = &value
	return nil
}

// setUserDataEncoding leaves the check to agree: without a key it does not
// matter what it says.
func setUserDataEncoding(s *Settings, value string) error {
	s.Sources.UserDataEncoding = Encoding(value)
	return nil
}

func setSSHKeySource(s *Settings, value string) error {
	object, key := value, defaultSSHKey
	if parts := strings.SplitN(value, "/", 3); len(parts) == 3 {
		object, key = parts[0]+"/"+parts[1], parts[2]
		if strings.Contains(key, "/") {
			return errors.New("has too many parts")
		}
	}
	ref, err := objectRef(sshKeySource, object)
	if err != nil {
		return err
	}
	ref.Value, ref.Key = value, key
	s.Sources.SSHKeys = ref
	return nil
}

func setFilesSource(s *Settings, value string) (err error) {
	s.Sources.Files, err = objectRef(FilesAnnotation, value)
	return err
}

// objectRef reads "<kind>/<name>", the kind in any case of letters.
func objectRef(annotation, value string) (*Ref, error) {
	kind, name, two := strings.Cut(value, "/")
	if !two || name == "" || strings.Contains(name, "/") {
		return nil, errors.New("is not a kind and a name")
	}
	r := &Ref{Annotation: annotation, Value: value, Object: Object{Name: name}}
	switch strings.ToLower(kind) {
	case "configmap":
		r.Kind = ConfigMap
	case "secret":
		r.Kind = Secret
	default:
		return nil, fmt.Errorf("unknown kind %q", shorten(kind))
	}
	return r, nil
}

// agreeSources checks the encoding, which counts together with a key only.
func (s *Settings) agreeSources(bad *problems) {
	if e := s.Sources.UserDataEncoding; s.Sources.UserDataKey != nil && e != Plain && e != Base64 {
		bad.key(userDataEncoding, "", string(e), errEncoding.Error(), "plain or base64")
		s.Sources.UserDataEncoding = Plain
	}
}
