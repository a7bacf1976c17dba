package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/util"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/config"
)

// Names of QEMU: Debian's and most others', and RHEL's.
const (
	commonBinary = "qemu-system-x86_64"
	rhelBinary   = "/usr/libexec/qemu-kvm"
)

// qemuBinary is the setting, or what this node has. When it has neither, the
// common name makes the better message.
func qemuBinary(setting string) string {
	if setting != "" {
		return setting
	}
	if _, err := exec.LookPath(commonBinary); err != nil {
		if _, err := exec.LookPath(rhelBinary); err == nil {
			return rhelBinary
		}
	}
	return commonBinary
}

// fallbackUser exists everywhere and owns nothing.
const fallbackUser = "nobody"

// qemuCredential is what QEMU runs as. Group kvm is what opens /dev/kvm.
func qemuCredential(name string, log *slog.Logger) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) && name != fallbackUser {
		log.Warn("the user for QEMU does not exist, nobody is taken: create it as a system user that owns nothing", "user", name)
		u, err = user.Lookup(fallbackUser)
	}
	if err != nil {
		return nil, fmt.Errorf("qemu-user %s: %w", name, err)
	}
	c, err := credential(u)
	if err != nil {
		return nil, fmt.Errorf("qemu-user %s: %w", u.Username, err)
	}
	if g, err := user.LookupGroup("kvm"); err == nil {
		if gid, err := strconv.ParseUint(g.Gid, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(gid))
		}
	}
	return c, nil
}

func credential(u *user.User) (*syscall.Credential, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// cgroupDriver must be the same for as long as pods exist, so it follows from
// the node and not from what kubelet happens to use.
func cgroupDriver(setting string) runtimeapi.CgroupDriver {
	if setting == "systemd" || setting == "auto" && util.IsRunningSystemd() {
		return runtimeapi.CgroupDriver_SYSTEMD
	}
	return runtimeapi.CgroupDriver_CGROUPFS
}

// statusInfo is what `crictl info` shows besides the conditions.
func statusInfo(cfg *config.Config) map[string]string {
	settings := map[string]string{}
	for _, v := range cfg.Values() {
		settings[v.Name] = v.Value
	}
	raw, _ := json.Marshal(settings) // strings always can be
	info := map[string]string{"config": string(raw)}
	if pending := cfg.Pending(); len(pending) > 0 {
		raw, _ := json.Marshal(pending)
		info["pendingRestart"] = string(raw)
	}
	return info
}

// SettingsPath is where the daemon's API has its settings.
const SettingsPath = api.SettingsPath

// apiSettings is what `qemulet config dump --running` shows.
func apiSettings(cfg *config.Config) api.Settings {
	return api.Settings{Values: asAPI(cfg.Values()), Pending: asAPI(cfg.Pending())}
}

func asAPI(values []config.Value) []api.Setting {
	all := make([]api.Setting, 0, len(values))
	for _, v := range values {
		all = append(all, api.Setting{Name: v.Name, Value: v.Value, Origin: string(v.Origin)})
	}
	return all
}
