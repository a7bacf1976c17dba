package reach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/qemulet/qemulet/internal/api"
)

// Local is the daemon of this machine.
type Local struct {
	socket string
	daemon *Daemon
}

// NewLocal makes a Local of the daemon with this api socket. The caller closes it.
func NewLocal(socket string) *Local {
	name, err := os.Hostname()
	if err != nil {
		name = "this machine"
	}
	l := &Local{socket: socket}
	l.daemon = NewDaemon(name, "through its socket "+socket, l.dial)
	return l
}

// dial says what is the matter with a socket that cannot be used.
func (l *Local) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", l.socket)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("only root may use it; from afar, by the API server, other users may do what their Roles allow: --kubeconfig")
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("it is not there: no daemon runs, or its api-socket is elsewhere (--socket)")
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, errors.New("nobody listens there: the daemon has ended; `systemctl status qemulet` tells why")
	}
	return nc, err
}

// Daemons implements Reach.
func (l *Local) Daemons(context.Context) ([]*Daemon, error) { return []*Daemon{l.daemon}, nil }

// Pod implements Reach. A name without a namespace may be of any.
func (l *Local) Pod(ctx context.Context, namespace, name string) (*Pod, error) {
	all, err := l.vms(ctx)
	if err != nil {
		return nil, err
	}
	var found []PodName
	for _, vm := range all {
		if vm.Name == name && (namespace == "" || namespace == vm.Namespace) {
			found = append(found, PodName{vm.Namespace, vm.Name})
		}
	}
	switch len(found) {
	case 1:
		return &Pod{PodName: found[0], Daemon: l.daemon}, nil
	case 0:
		return nil, fmt.Errorf("there is no VM pod %q on this node (asked %s); `ps` lists those that are there, and for other nodes there is --kubeconfig",
			strings.TrimPrefix(namespace+"/"+name, "/"), l.daemon.Way)
	}
	return nil, fmt.Errorf("pod %q: there are several: %s; name one of them", name, list(found))
}

func list(all []PodName) string {
	var names []string
	for _, n := range all {
		names = append(names, n.String())
	}
	return strings.Join(names, ", ")
}

func (l *Local) vms(ctx context.Context) (all []api.VM, err error) {
	err = l.daemon.Call(ctx, http.MethodGet, api.VMsPath, nil, &all)
	return all, err
}

// Complete implements Reach.
func (l *Local) Complete(ctx context.Context, namespace string) ([]PodName, error) {
	all, err := l.vms(ctx)
	var names []PodName
	for _, vm := range all {
		if namespace == "" || vm.Namespace == namespace {
			names = append(names, PodName{vm.Namespace, vm.Name})
		}
	}
	return names, err
}

// String implements Reach.
func (l *Local) String() string { return "the daemon of this machine, " + l.daemon.Way }

// Close implements Reach.
func (l *Local) Close() { l.daemon.Close() }
