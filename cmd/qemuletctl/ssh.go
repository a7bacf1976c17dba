package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/reach"
)

const sshHelp = `Connect to the ssh server in a VM: port 22 of the guest is forwarded to a free port
of this machine's loopback, and ssh is started with it. Neither needs the pod's
network to be reachable from here.

What follows is given to ssh as it is, options too. The host's key is not checked,
since each VM has a new one. The exit code is that of ssh, which is the command's.`

const sshExamples = `  PROGRAM ssh cirros@my-vm
  PROGRAM ssh cirros@my-vm -- uptime
  PROGRAM ssh root@team/my-vm -- -i ~/.ssh/vm_key 'journalctl -b | tail'`

func newSSHCommand(a *access) *cobra.Command {
	return a.with(&cobra.Command{
		Use: "ssh [USER@]POD [-- ARGS...]", Short: "Connect to the ssh server in a VM", Long: sshHelp, Example: sshExamples,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return argumentsError(cmd, "[USER@]POD, and what is for ssh")
			}
			return nil
		},
		ValidArgsFunction: a.completeSSH,
	}, func(cmd *cobra.Command, r reach.Reach, args []string) error {
		user, pod := splitUser(args[0])
		p, err := a.pod(cmd, r, pod)
		if err != nil {
			return err
		}
		return ssh(cmd.Context(), p, user, args[1:])
	})
}

// splitUser reads [USER@]POD.
func splitUser(text string) (user, pod string) {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		return text[:i], text[i+1:]
	}
	return "", text
}

// completeSSH completes the part behind USER@.
func (a *access) completeSSH(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	user, pod := splitUser(start)
	names := a.podNames(cmd.Context(), pod)
	if strings.Contains(start, "@") {
		for i := range names {
			names[i] = user + "@" + names[i]
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

const sshPort = 22

func ssh(ctx context.Context, p *reach.Pod, user string, args []string) error {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return errors.New("there is no ssh on this machine: install openssh-client")
	}
	f, err := forward(ctx, p, sshPort)
	if err != nil {
		return err
	}
	defer f.close()
	cmd := exec.CommandContext(ctx, program, sshArgs(f.port(), user, args)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exitCode(exit.ExitCode())
	}
	return err
}

func sshArgs(port int, user string, args []string) []string {
	all := []string{
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-p", strconv.Itoa(port),
	}
	if user != "" {
		all = append(all, "-l", user)
	}
	return append(append(all, "127.0.0.1"), args...)
}

// forwarding hands each connection to a port of the loopback to one of the guest.
type forwarding struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	first    chan net.Conn
}

// forward forwards a free port of the loopback. That the guest can be reached is
// tried first. The caller closes it.
func forward(ctx context.Context, p *reach.Pod, port int) (*forwarding, error) {
	path := p.Path("port", strconv.Itoa(port))
	dial := func(ctx context.Context) (net.Conn, error) { return p.Upgrade(ctx, path, nil) }
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	f := &forwarding{listener: l, dial: dial, first: make(chan net.Conn, 1)}
	f.first <- conn
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.wg.Go(f.accept)
	return f, nil
}

func (f *forwarding) port() int { return f.listener.Addr().(*net.TCPAddr).Port }

func (f *forwarding) accept() {
	for {
		here, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.wg.Go(func() { f.serve(here) })
	}
}

func (f *forwarding) serve(here net.Conn) {
	defer here.Close()
	there, err := f.connect()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	join(f.ctx, here, there)
}

// connect takes the connection of the trial, or makes another.
func (f *forwarding) connect() (net.Conn, error) {
	select {
	case conn := <-f.first:
		return conn, nil
	default:
		return f.dial(f.ctx)
	}
}

func (f *forwarding) close() {
	_ = f.listener.Close()
	f.cancel()
	f.wg.Wait()
	select {
	case conn := <-f.first:
		_ = conn.Close()
	default:
	}
}

// join copies both ways until either side or ctx ends, and closes both.
func join(ctx context.Context, a, b net.Conn) {
	shut := func() {
		_ = a.Close()
		_ = b.Close()
	}
	defer context.AfterFunc(ctx, shut)()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			shut()
		})
	}
	wg.Wait()
}
