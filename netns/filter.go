package netns

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// dropIngress puts a classic BPF program in direct-action mode (tc-bpf(8)) on a link's ingress. Unlike the other
// classifiers it needs no separate module for the action.
func (l *links) dropIngress(index int, name string, program []bpf.RawInstruction) error {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index,
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_CLSACT,
	}}
	if err := l.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return filterError("sch_ingress", err)
	}
	if err := l.addFilter(index, name, program); err != nil {
		return filterError("cls_bpf", err)
	}
	return nil
}

func filterError(module string, err error) error {
	return fmt.Errorf("netns: keep DHCP from the pod's network: %w: the kernel's module %s is needed (modprobe %s)", err, module, module)
}

func (l *links) addFilter(index int, name string, program []bpf.RawInstruction) error {
	const priority = 1
	req := nl.NewNetlinkRequest(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.Sockets = l.raw
	req.AddData(&nl.TcMsg{
		Family:  nl.FAMILY_ALL,
		Ifindex: int32(index),
		Parent:  netlink.HANDLE_MIN_INGRESS,
		Info:    netlink.MakeHandle(priority, nl.Swap16(unix.ETH_P_ALL)),
	})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("bpf")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(program))))
	options.AddRtAttr(nl.TCA_BPF_OPS, sockFilters(program))
	options.AddRtAttr(nl.TCA_BPF_NAME, nl.ZeroTerminated(name))
	options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
	req.AddData(options)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
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
