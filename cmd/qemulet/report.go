package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/qemulet/qemulet/internal/podrun"
)

// report is what validate shows, as JSON or, by print, for people.
type report struct {
	Problems []string   `json:"problems"`
	Notes    []string   `json:"notes,omitempty"`
	Assumed  []string   `json:"assumed,omitempty"`
	Pod      string     `json:"pod,omitempty"` // namespace/name
	VM       *vmReport  `json:"vm,omitempty"`  // what is known of it; nil when that is nothing
	Binary   string     `json:"binary,omitempty"`
	Args     []string   `json:"args,omitempty"`
	Commands []string   `json:"qmp,omitempty"` // sent before the machine is continued
	Seed     []document `json:"cloudInit,omitempty"`
}

type vmReport struct {
	Hostname string        `json:"hostname"`
	UUID     string        `json:"uuid"`
	Image    string        `json:"image"`
	QEMU     string        `json:"qemu,omitempty"`
	Machine  string        `json:"machine,omitempty"`
	Accel    string        `json:"accel,omitempty"`
	VCPUs    int           `json:"vcpus"`
	CPU      string        `json:"cpu,omitempty"`
	Memory   int64         `json:"memoryBytes"`
	Limit    int64         `json:"memoryLimitBytes"` // of QEMU with all it needs
	Shares   uint64        `json:"cpuShares,omitempty"`
	Quota    int64         `json:"cpuQuota,omitempty"`
	Period   uint64        `json:"cpuPeriod,omitempty"`
	Disks    []diskReport  `json:"disks"`
	Dirs     []shareReport `json:"directories,omitempty"`
	NICs     []string      `json:"nics"`
	Label    string        `json:"cloudInitLabel"`
}

type diskReport struct {
	Device   string `json:"device"` // in the guest
	Serial   string `json:"serial"`
	Bus      string `json:"bus"`
	Format   string `json:"format"`
	Bytes    int64  `json:"bytes,omitempty"`
	From     string `json:"from"`
	Guest    string `json:"path,omitempty"` // of the manifest
	ReadOnly bool   `json:"readOnly,omitempty"`
}

type shareReport struct {
	Path     string `json:"path"`
	From     string `json:"from"`
	Tag      string `json:"tag"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

type document struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

func newReport(m *podrun.Manifest, l *looked) *report {
	r := &report{Problems: l.problems, Notes: slices.Concat(m.Notes, l.notes)}
	if r.Problems == nil {
		r.Problems = []string{} // [] and not null
	}
	if m.Pod != nil {
		r.Pod = m.Pod.Namespace + "/" + m.Pod.Name
	}
	if l.Preview == nil {
		return r
	}
	r.Notes, r.Assumed = append(r.Notes, l.Notes...), l.Assumed
	if l.VM != nil {
		r.Assumed = append(r.Assumed, "the pod's address is "+podrun.PretendIP)
	}
	if l.VM != nil && l.VM.SystemUUID == "" {
		r.Assumed = append(r.Assumed, "the UUID follows from the pod's UID, which another pod of this manifest does not have")
	}
	if l.VM != nil && len(l.Disks) > 0 {
		r.VM = newVMReport(m, l)
	}
	if inv := l.Invocation; inv != nil {
		r.Binary, r.Args = inv.Binary, inv.Args
		for _, c := range inv.Commands {
			r.Commands = append(r.Commands, strings.TrimSpace(c.Execute+" "+string(c.Arguments)))
		}
	}
	for _, f := range l.Seed {
		r.Seed = append(r.Seed, document{f.Path, string(f.Data)})
	}
	return r
}

func newVMReport(m *podrun.Manifest, l *looked) *vmReport {
	v := &vmReport{
		Hostname: l.VM.Hostname, UUID: l.VM.UUID, Image: l.VM.Image, QEMU: l.QEMU, Accel: string(l.Accel),
		VCPUs: l.VM.VCPUs, CPU: l.Config.CPU.Model, Memory: l.VM.MemoryBytes, Label: l.Label,
	}
	if l.Invocation != nil {
		v.Machine = l.Invocation.Machine
	}
	if res := l.Resources; res.Memory != nil && res.Memory.Limit != nil {
		v.Limit = *res.Memory.Limit
	}
	if cpu := l.Resources.CPU; cpu != nil {
		v.Shares, v.Quota, v.Period = value(cpu.Shares), value(cpu.Quota), value(cpu.Period)
	}
	for range l.Config.NICs {
		v.NICs = append(v.NICs, "virtio-net, its addresses from CNI by DHCP and cloud-init")
	}
	v.addVolumes(m, l)
	return v
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (v *vmReport) addVolumes(m *podrun.Manifest, l *looked) {
	sources := m.Sources()
	for i, d := range l.Disks {
		from := cmp.Or(sources[d.Path], d.Path)
		switch d.Serial {
		case "root":
			from = cmp.Or(from, "made over the image")
		case "seed":
			from = "made for cloud-init"
		default:
			if d.Bytes > 0 {
				from = "made for the pod"
			}
		}
		v.Disks = append(v.Disks, diskReport{
			Device: deviceName(string(d.Bus), i, string(d.Media)), Serial: d.Serial, Bus: string(d.Bus), Format: string(d.Format),
			Bytes: cmp.Or(d.Bytes, d.Size), From: from, Guest: d.Guest, ReadOnly: d.ReadOnly,
		})
	}
	for _, s := range l.Shares {
		v.Dirs = append(v.Dirs, shareReport{Path: s.Guest, From: cmp.Or(sources[s.Path], s.Path), Tag: s.Tag, ReadOnly: s.ReadOnly})
	}
}

// deviceName is what most guests call a disk; what counts is its serial number.
func deviceName(bus string, i int, media string) string {
	switch {
	case bus == "virtio":
		return fmt.Sprintf("/dev/vd%c", 'a'+i)
	case media == "cdrom":
		return "/dev/sr0"
	}
	return fmt.Sprintf("/dev/sd%c", 'a'+i)
}

// mask replaces what may hold values of Secrets by what was made of masked ones.
func (r *report) mask(masked *looked) {
	if len(r.Seed) == 0 {
		return
	}
	r.Seed = nil
	if masked.Preview == nil || len(masked.Seed) == 0 {
		r.Assumed = append(r.Assumed, "the cloud-init documents are made of Secrets and cannot be shown without them")
		return
	}
	for _, f := range masked.Seed {
		r.Seed = append(r.Seed, document{f.Path, string(f.Data)})
	}
}

// print writes the report for people.
func (r *report) print(out io.Writer) error {
	w := &pages{out: out}
	if v := r.VM; v != nil {
		w.line("pod %s is a virtual machine with the host name %s", r.Pod, v.Hostname)
		w.rows(v.summary())
		w.table("disks, in this order:", v.diskTable())
		w.table("directories of the node, over 9p:", v.dirTable())
	} else if r.Pod != "" {
		w.line("pod %s", r.Pod)
	}
	for _, d := range r.Seed {
		w.page("cloud-init: "+d.Name, strings.TrimRight(d.Text, "\n"))
	}
	if r.Binary != "" {
		w.page("QEMU is started like this, and given its files, sockets and taps:", commandLine(r.Binary, r.Args))
	}
	if len(r.Commands) > 0 {
		w.page("and told this before its first instruction:", strings.Join(r.Commands, "\n"))
	}
	w.list("taken for granted:", r.Assumed)
	w.list("notes:", r.Notes)
	if len(r.Problems) == 0 {
		w.line("\nnothing is wrong with it")
	} else {
		w.list(fmt.Sprintf("problems (%d):", len(r.Problems)), r.Problems)
	}
	return w.err
}

func (v *vmReport) summary() [][]string {
	rows := [][]string{
		{"image", v.Image},
		{"machine", strings.Join(slices.DeleteFunc([]string{v.Machine, v.Accel, v.QEMU}, func(s string) bool { return s == "" }), ", ")},
		{"UUID", v.UUID},
		{"vCPUs", fmt.Sprintf("%d, %s", v.VCPUs, cmp.Or(v.CPU, "the node's default model"))},
		{"memory", fmt.Sprintf("%s; with QEMU's own needs at most %s", mebibytes(v.Memory), mebibytes(v.Limit))},
		{"CPU time", v.cpuTime()},
		{"network", strings.Join(v.NICs, "; ")},
		{"cloud-init", "volume label " + v.Label},
	}
	return slices.DeleteFunc(rows, func(row []string) bool { return row[1] == "" })
}

func (v *vmReport) cpuTime() string {
	var parts []string
	if v.Quota > 0 && v.Period > 0 {
		parts = append(parts, fmt.Sprintf("at most %d%% of a processor", v.Quota*100/int64(v.Period)))
	}
	if v.Shares > 0 {
		parts = append(parts, fmt.Sprintf("%d shares", v.Shares))
	}
	return strings.Join(parts, ", ")
}

func (v *vmReport) diskTable() [][]string {
	rows := [][]string{{"IN THE GUEST", "SERIAL", "FORMAT", "SIZE", "IN THE MANIFEST", "FROM"}}
	for _, d := range v.Disks {
		size := "-"
		if d.Bytes > 0 {
			size = mebibytes(d.Bytes)
		}
		rows = append(rows, []string{d.Device, d.Serial, d.Format + suffix(d.ReadOnly, ", read-only"), size, cmp.Or(d.Guest, "-"), d.From})
	}
	return rows
}

func (v *vmReport) dirTable() [][]string {
	if len(v.Dirs) == 0 {
		return nil
	}
	rows := [][]string{{"IN THE GUEST", "TAG", "FROM"}}
	for _, d := range v.Dirs {
		rows = append(rows, []string{d.Path + suffix(d.ReadOnly, " (read-only)"), d.Tag, d.From})
	}
	return rows
}

func suffix(is bool, text string) string {
	if is {
		return text
	}
	return ""
}

func mebibytes(n int64) string {
	const mib = 1 << 20
	if n%mib != 0 {
		return fmt.Sprintf("%.1f MiB", float64(n)/mib)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

// commandLine has a line for each option, and quotes for a shell.
func commandLine(binary string, args []string) string {
	var b strings.Builder
	b.WriteString(binary)
	for i, arg := range args {
		separator := " "
		if strings.HasPrefix(arg, "-") || i == 0 {
			separator = " \\\n  "
		}
		b.WriteString(separator + quoted(arg))
	}
	return b.String()
}

func quoted(arg string) string {
	if arg != "" && !strings.ContainsAny(arg, " \t\n\"'\\$`*?[]{}()<>|&;#~!") {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// pages writes to out until that fails.
type pages struct {
	out io.Writer
	err error
}

func (p *pages) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format+"\n", args...)
	}
}

func (p *pages) page(title, text string) {
	p.line("\n%s\n\n  %s", title, strings.ReplaceAll(text, "\n", "\n  "))
}

func (p *pages) list(title string, items []string) {
	if len(items) == 0 {
		return
	}
	p.line("\n%s", title)
	for _, item := range items {
		p.line("  - %s", strings.ReplaceAll(item, "\n", "\n    "))
	}
}

func (p *pages) table(title string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	p.line("\n%s", title)
	p.rows(rows)
}

func (p *pages) rows(rows [][]string) {
	if p.err != nil {
		return
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, "  "+strings.Join(row, "\t"))
	}
	p.err = w.Flush()
}
