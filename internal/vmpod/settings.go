package vmpod

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// errNotYet is for what Virtlet had and this version has not. To ignore it
// would give a machine other than the one that was asked for.
var errNotYet = errors.New("is not supported yet by this version")

// isTrue is how Virtlet reads a boolean: just these four bytes, and everything
// else is false, never an error.
func isTrue(value string) bool { return value == "true" }

const maxVCPUs = 255

// setVCPUCount takes what Go's Atoi takes. Zero and less become one.
func setVCPUCount(s *Settings, value string) error {
	n, err := strconv.Atoi(value)
	switch {
	case errors.Is(err, strconv.ErrRange) && !strings.HasPrefix(value, "-"):
		return errors.New("too big, max is 255")
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return errors.New("error parsing cpu count")
	case n > maxVCPUs:
		return errors.New("too big, max is 255")
	}
	s.VCPUs = max(n, 1)
	return nil
}

func setCPUModel(s *Settings, value string) error {
	if value != "" && value != CPUHostModel {
		return errors.New("unknown cpu model type")
	}
	s.CPUModel = value
	return nil
}

func setDiskDriver(s *Settings, value string) error {
	switch DiskDriver(value) {
	case "":
		s.DiskDriver = DiskSCSI
	case DiskSCSI, DiskVirtio:
		s.DiskDriver = DiskDriver(value)
	default:
		return errors.New("bad disk driver")
	}
	return nil
}

func setImageType(s *Settings, value string) error {
	switch t := CloudInitImageType(strings.ToLower(value)); t {
	case "":
		s.CloudInit.ImageType = NoCloud
	case NoCloud, ConfigDrive:
		s.CloudInit.ImageType = t
	default:
		return errors.New("unknown config image type")
	}
	return nil
}

func setMetaData(s *Settings, value string) error {
	m, err := mapping(value)
	if err != nil {
		return fmt.Errorf("failed to unmarshal cloud-init metadata: %w", err)
	}
	s.CloudInit.MetaData = m
	return nil
}

func setUserData(s *Settings, value string) error {
	m, err := mapping(value)
	if err != nil {
		return fmt.Errorf("failed to unmarshal cloud-init userdata: %w", err)
	}
	if m == nil {
		m = map[string]any{} // that it is there counts
	}
	s.CloudInit.UserData = m
	return nil
}

func setUserDataScript(s *Settings, value string) error {
	s.CloudInit.UserDataScript = value
	return nil
}

func setChownShares(s *Settings, value string) error {
	s.ChownShares = isTrue(value)
	return nil
}

// DisplayAnnotation is the name of the annotation that gives a guest a display.
const DisplayAnnotation = "qemulet.io/display"

// displays are the kinds of displays, and whether they are any.
var displays = map[string]bool{"vga": true, "none": false}

func setDisplay(s *Settings, value string) error {
	display, known := displays[value]
	if !known {
		return errors.New("unknown display")
	}
	s.Display = display
	return nil
}

func setForceDHCP(s *Settings, value string) error {
	s.CloudInit.ForceDHCP = isTrue(value)
	return nil
}

// setSSHKeys takes one key per line. The keys' syntax is the guest's business.
func setSSHKeys(s *Settings, value string) error {
	s.CloudInit.SSHKeys = lines(value)
	return nil
}

// lines are the lines of a text without the blank ones; never nil.
func lines(text string) []string {
	all := []string{}
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// uuidForm is what Virtlet took, and upper case too.
var uuidForm = regexp.MustCompile(`^(?:urn:uuid:)?\{?([0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})\}?$`)

func setSystemUUID(s *Settings, value string) error {
	m := uuidForm.FindStringSubmatch(strings.ToLower(value))
	if m == nil {
		return errors.New("failed to parse as a UUID")
	}
	s.SystemUUID = m[1]
	return nil
}
