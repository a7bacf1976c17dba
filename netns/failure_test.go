package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// chainedFake is the bridge network with a fake plugin chained to it.
func chainedFake(n *testNode) string { return bridgeNet(`{"type":"fake"}`)(n) }

// prevResult lets a fake plugin pass on the result it was given.
const prevResult = `printf %s "$in" | sed 's/.*"prevResult"://; s/,"type":"fake"}$//'`

func TestSetupFailuresLeaveNothingBehind(t *testing.T) {
	tests := []struct {
		name   string
		script string // of the fake plugin
		wants  []string
		is     error
	}{
		{"its own words", `[ $CNI_COMMAND = DEL ] || { echo '{"cniVersion":"1.0.0","code":11,"msg":"no more sheep","details":"all counted"}'; exit 1; }`,
			[]string{`network "podnet"`, `plugin "fake"`, "on ADD", "no more sheep; all counted"}, nil},
		{"words on stderr", `[ $CNI_COMMAND = DEL ] || { echo "cannot find the moon" >&2; exit 3; }`,
			[]string{`plugin "fake"`, "exit status 3", "cannot find the moon"}, nil},
		{"without a word", `[ $CNI_COMMAND = DEL ] || exit 1`, []string{"exit status 1, without a word"}, nil},
		{"garbage and failure", `[ $CNI_COMMAND = DEL ] || { echo '<html>oops'; exit 1; }`, []string{"exit status 1", "<html>oops"}, nil},
		{"garbage and success", `[ $CNI_COMMAND = DEL ] || echo 'all is well'`, []string{`plugin "fake"`, "no result", "all is well"}, ErrBadResult},
		{"nothing and success", `:`, []string{`plugin "fake"`, "no result"}, ErrBadResult},
		{"null", `[ $CNI_COMMAND = DEL ] || echo null`, []string{"no result", "null"}, ErrBadResult},
		{"a flood", `[ $CNI_COMMAND = DEL ] || exec yes`, []string{`plugin "fake"`, "more than 4194304 bytes", "y\\ny"}, nil},
		{"a hang", `[ $CNI_COMMAND = DEL ] || { sleep 1000 & sleep 1000; }`, []string{"did not finish within 3s and was killed"}, context.DeadlineExceeded},
		{"a signal", `[ $CNI_COMMAND = DEL ] || kill -9 $$`, []string{"signal: killed"}, nil},
		{"a result of the future", `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"9.9.9"}'`, []string{"podnet", "fake", "9.9.9"}, nil},
		{"no addresses", `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0"}'`, []string{"podnet", "bridge, fake", "no address"}, ErrBadResult},
		{"a lie", `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.9/24"}]}'`,
			[]string{"podnet", "192.0.2.9 is on no link"}, ErrBadResult},
		{"an empty result", `[ $CNI_COMMAND = DEL ] || echo '{}'`, []string{"podnet"}, nil},
		{"no address at all", `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0","ips":[{}]}'`, []string{"podnet"}, nil},
		{"an address of nonsense", `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"banana"}]}'`, []string{"podnet", "banana"}, nil},
		{"a list of something else", `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0","ips":"10.0.0.1"}'`, []string{"podnet", "malformed"}, ErrBadResult},
		{"addresses that are null", `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0","ips":[null]}'`, []string{"podnet", "ips[0] is null"}, ErrBadResult},
		{"interfaces that are null", `[ $CNI_COMMAND = DEL ] || { ` + prevResult + ` | sed 's/"interfaces":\[/"interfaces":[null,/'; }`,
			[]string{"podnet", "interfaces[0] is null"}, ErrBadResult},
		{"routes that are null", `[ $CNI_COMMAND = DEL ] || { ` + prevResult + ` | sed 's/"routes":\[/"routes":[null,/'; }`,
			[]string{"podnet", "routes[0] is null"}, ErrBadResult},
		{"one MAC address twice", `[ $CNI_COMMAND = DEL ] || { nsenter --net=$CNI_NETNS sh -ec 'ip link add net1 type veth peer name far1
			ip link set net1 address $(ip link show eth0 | sed -n "s|.*link/ether \([^ ]*\).*|\1|p"); ip addr add 10.89.0.7/24 dev net1' >&2; ` + prevResult + ` | sed 's|"ips":\[|"ips":[{"address":"10.89.0.7/24"},|'; }`,
			[]string{"podnet", "links net1 and eth0 have the same MAC address"}, ErrBadResult},
		{"deleted namespace", `[ $CNI_COMMAND = DEL ] || { umount -l $CNI_NETNS; rm $CNI_NETNS; ` + prevResult + `; }`,
			[]string{"network namespace is gone", "podnet", "bridge, fake"}, ErrGone},
		{"another namespace", `[ $CNI_COMMAND = DEL ] || { umount -l $CNI_NETNS; unshare -n mount --bind /proc/self/ns/net $CNI_NETNS; ` + prevResult + `; }`,
			[]string{"another namespace"}, ErrGone},
		{"deleted link", `[ $CNI_COMMAND = DEL ] || { nsenter --net=$CNI_NETNS ip link del eth0; ` + prevResult + `; }`,
			[]string{"is on no link"}, ErrBadResult},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, chainedFake)
			if tt.name == "a hang" {
				n.o.PluginTimeout = 3 * time.Second // the others have to be done in it, on a busy machine too
			}
			n.plugin("fake", tt.script)
			fds := openFDs(t)
			_, err := n.Setup(t.Context(), testPod(1))
			if err == nil {
				t.Fatal("Setup succeeded")
			}
			for _, want := range tt.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("the error is no %v: %v", tt.is, err)
			}
			if errors.Is(err, ErrUndo) {
				t.Errorf("not undone: %v", err)
			}
			if calls := n.calls("fake"); calls != "ADD DEL" {
				t.Errorf("calls of the plugin: %q", calls)
			}
			n.assertClean()
			assertFDs(t, fds)
			n.plugin("fake", `[ $CNI_COMMAND = DEL ] || `+prevResult)
			n.setup(testPod(2)) // the next try works
		})
	}
}

func TestHangingPluginDiesWithItsGroup(t *testing.T) {
	n := newNode(t, chainedFake)
	n.o.PluginTimeout = 3 * time.Second
	pidFile := filepath.Join(n.root, "pid")
	n.plugin("fake", fmt.Sprintf(`[ $CNI_COMMAND = DEL ] || { sleep 1000 & echo $! >%s; wait; }`, pidFile))
	if _, err := n.Setup(t.Context(), testPod(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Setup: %v", err)
	}
	raw, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(raw)) + "/stat")
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("the plugin's child lives: %s", stat)
	}
}

func TestCancelledSetupIsUndone(t *testing.T) {
	n := newNode(t, chainedFake)
	fifo := filepath.Join(n.root, "started")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	n.plugin("fake", fmt.Sprintf(`[ $CNI_COMMAND = DEL ] || { echo >%s; sleep 1000; }`, fifo))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = os.ReadFile(fifo) // until the plugin runs
		cancel()
	}()
	_, err := n.Setup(ctx, testPod(1))
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "the request ended") {
		t.Errorf("Setup: %v", err)
	}
	n.assertClean()
}

func TestNoConfiguration(t *testing.T) {
	n := newNode(t, nil)
	for _, err := range []error{n.Status(t.Context()), setupError(n)} {
		if !errors.Is(err, ErrNoConfig) || !strings.Contains(err.Error(), n.conf) || !strings.Contains(err.Error(), "conflist") {
			t.Errorf("without a configuration: %v", err)
		}
	}
	n.configure("05-broken.conflist", `{"cniVersion": "1.0.0", "name": "x", `)
	n.configure("06-empty.conflist", ``)
	n.configure("07-noplugins.conflist", `{"cniVersion":"1.0.0","name":"x","plugins":[]}`)
	n.configure("08-future.conf", `{"cniVersion":"99.0.0","name":"x","type":"bridge"}`)
	for i, text := range []string{"null", "[]", `{"cniVersion":"1.0.0","name":"x","plugins":[null]}`, `{"cniVersion":"1.0.0","name":"x","plugins":[[]]}`,
		`{"cniVersion":null,"name":null,"plugins":null}`, `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":null}]}`, `{"cniVersion":"one","name":"x","plugins":[{"type":"bridge"}]}`} {
		n.configure(fmt.Sprintf("08-odd%d.conflist", i), text)
		n.configure(fmt.Sprintf("08-odd%d.conf", i), text)
	}
	n.configure("09-readme.txt", `{"cniVersion":"1.0.0","name":"x","type":"bridge"}`)
	err := n.Status(t.Context())
	if !errors.Is(err, ErrNoConfig) {
		t.Errorf("with broken configurations: %v", err)
	}
	for _, file := range []string{"05-broken.conflist", "06-empty.conflist", "07-noplugins.conflist", "08-future.conf"} {
		if !strings.Contains(err.Error(), file) {
			t.Errorf("the error does not name %s: %v", file, err)
		}
	}
	n.configure("10-good.conflist", bridgeNet()(n))
	if err := n.Status(t.Context()); err != nil {
		t.Errorf("with a good configuration after broken ones: %v", err)
	}
	n.assertClean()
}

func setupError(n *testNode) error {
	_, err := n.Setup(n.t.Context(), testPod(1))
	return err
}

func TestMissingPlugin(t *testing.T) {
	n := newNode(t, bridgeNet(`{"type":"unicorn"}`))
	for _, err := range []error{n.Status(t.Context()), setupError(n)} {
		if !errors.Is(err, ErrPluginMissing) || !strings.Contains(err.Error(), "unicorn") || !strings.Contains(err.Error(), pluginDir) {
			t.Errorf("with a missing plugin: %v", err)
		}
	}
	n.assertClean()
}

func TestStatusAsksThePlugins(t *testing.T) {
	n := newNode(t, func(*testNode) string {
		return `{"cniVersion":"1.1.0","name":"podnet","plugins":[{"type":"fake"}]}`
	})
	n.plugin("fake", `echo '{"cniVersion":"1.1.0","code":50,"msg":"the controller is asleep"}'; exit 1`)
	err := n.Status(t.Context())
	var failure *PluginError
	if !errors.As(err, &failure) || failure.Command != "STATUS" || failure.Code != 50 || !strings.Contains(err.Error(), "asleep") {
		t.Errorf("Status: %v", err)
	}
	n.plugin("fake", `:`)
	if err := n.Status(t.Context()); err != nil {
		t.Errorf("Status: %v", err)
	}
	n.statusTimeout = 100 * time.Millisecond
	n.plugin("fake", `sleep 1000`)
	if err := n.Status(t.Context()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "on STATUS: it did not finish within 100ms") {
		t.Errorf("Status of a plugin that hangs: %v", err)
	}
}

func TestSetupTwice(t *testing.T) {
	n := newNode(t, bridgeNet())
	n.setup(testPod(1))
	if err := setupError(n); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Setup: %v", err)
	}
	if pods, _ := n.Attachments(); len(pods) != 1 {
		t.Errorf("attachments after the second Setup: %v", pods)
	}
}

func TestBadPods(t *testing.T) {
	n := newNode(t, bridgeNet())
	for name, change := range map[string]func(*Pod){
		"id": func(p *Pod) { p.ID = "../x" }, "no id": func(p *Pod) { p.ID = "" },
		"name": func(p *Pod) { p.NetnsName = "eth" }, "path": func(p *Pod) { p.NetnsName = Prefix + "../x" },
		"queues": func(p *Pod) { p.Queues = 99 },
	} {
		p := testPod(1)
		change(&p)
		if _, err := n.Setup(t.Context(), p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := n.Teardown(t.Context(), Pod{}); !errors.Is(err, errNoPod) {
		t.Errorf("Teardown of nothing: %v", err)
	}
	if err := n.Teardown(t.Context(), Pod{ID: "../../x", NetnsName: Prefix + "1"}); err == nil {
		t.Error("Teardown of a path: accepted")
	}
	n.assertClean()
}
