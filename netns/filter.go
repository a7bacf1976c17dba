package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Filters of a link's ingress, in the order in which they see a frame.
const (
	dropPriority     = 1
	redirectPriority = 2
)

// dropIngress puts a classic BPF program in direct-action mode (tc-bpf(8)) on a link's ingress. Unlike the other
// classifiers it needs no separate module for the action.
func (l *links) dropIngress(index int, program []bpf.RawInstruction) error {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index,
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_CLSACT,
	}}
	if err := l.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return filterError("sch_ingress", err)
	}
	err := l.addFilter(index, dropPriority, program, func(options *nl.RtAttr) error {
		options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
		return nil
	})
	if err != nil {
		return filterError("cls_bpf", err)
	}
	return nil
}

func filterError(module string, err error) error {
	return fmt.Errorf("netns: keep DHCP from the pod's network: %w: the kernel's module %s is needed (modprobe %s)", err, module, module)
}

// redirectIngress sends what arrives at a link, and is not dropped, out of another one.
func (l *links) redirectIngress(index, to int) error {
	all := []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K, K: 0xffffffff}} // matches with the filter's own class
	err := l.addFilter(index, redirectPriority, all, func(options *nl.RtAttr) error {
		return netlink.EncodeActions(options.AddRtAttr(nl.TCA_BPF_ACT, nil), []netlink.Action{netlink.NewMirredAction(to)})
	})
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: the kernel's module act_mirred is needed (modprobe act_mirred)", err)
	}
	return err
}

// addFilter adds a classic BPF filter to a link's ingress; complete adds what it does with frames.
func (l *links) addFilter(index int, priority uint16, program []bpf.RawInstruction, complete func(*nl.RtAttr) error) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.Sockets = l.raw
	req.AddData(ingress(index, priority))
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("bpf")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(program))))
	options.AddRtAttr(nl.TCA_BPF_OPS, sockFilters(program))
	if err := complete(options); err != nil {
		return err
	}
	req.AddData(options)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// removeFilter removes the filter of a priority. It is no error when there is none.
func (l *links) removeFilter(index int, priority uint16) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELTFILTER, unix.NLM_F_ACK)
	req.Sockets = l.raw
	req.AddData(ingress(index, priority))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

func ingress(index int, priority uint16) *nl.TcMsg {
	return &nl.TcMsg{
		Family:  nl.FAMILY_ALL,
		Ifindex: int32(index),
		Parent:  netlink.HANDLE_MIN_INGRESS,
		Info:    netlink.MakeHandle(priority, nl.Swap16(unix.ETH_P_ALL)),
	}
}

// hasFilter reports whether a link's ingress has a BPF filter of that priority.
func (l *links) hasFilter(link netlink.Link, priority uint16) (bool, error) {
	filters, err := l.FilterList(link, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return false, fmt.Errorf("list filters of %s: %w", link.Attrs().Name, err)
	}
	return slices.ContainsFunc(filters, func(f netlink.Filter) bool {
		return f.Type() == "bpf" && f.Attrs().Priority == priority
	}), nil
}

// sockFilters encodes a program as an array of struct sock_filter.
func sockFilters(program []bpf.RawInstruction) []byte {
	var out []byte
	for _, ins := range program {
		out = binary.NativeEndian.AppendUint16(out, ins.Op)
		out = append(out, ins.Jt, ins.Jf)
		out = binary.NativeEndian.AppendUint32(out, ins.K)
	}
	return out
}
