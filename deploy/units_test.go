package deploy

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
)

func settings(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open("systemd/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	options, err := unit.DeserializeOptions(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var all []string
	for _, o := range options {
		all = append(all, o.Section+"."+o.Name+"="+o.Value)
	}
	return all
}

// VMs outlive the daemon, both are always started again, and nothing that
// ordinary pods need waits for the daemon.
func TestUnits(t *testing.T) {
	for name, want := range map[string][]string{
		"qemulet.service":  {"Service.KillMode=process", "Service.Delegate=yes", "Service.ExecReload=/bin/kill -HUP $MAINPID", "Service.WatchdogSec=3min", "Service.ExecStart=/usr/local/bin/qemulet serve"},
		"criproxy.service": {"Unit.Before=kubelet.service", "Unit.After=containerd.service crio.service", "Service.WatchdogSec=1min", "Service.ExecStart=/usr/local/bin/criproxy $CRIPROXY_ARGS"},
	} {
		has := settings(t, name)
		for _, w := range append(want, "Service.Type=notify", "Service.Restart=always", "Unit.StartLimitIntervalSec=0", "Install.WantedBy=multi-user.target") {
			if !slices.Contains(has, w) {
				t.Errorf("%s: no %s in %q", name, w, has)
			}
		}
		for _, s := range has {
			if name == "qemulet.service" && strings.HasPrefix(s, "Unit.Before=") || strings.HasPrefix(s, "Unit.After=") && strings.Contains(s, "qemulet") {
				t.Errorf("%s: %s makes others wait", name, s)
			}
		}
	}
}
