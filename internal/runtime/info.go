package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// SandboxInfo is what a verbose PodSandboxStatus adds: JSON values by name.
func (r *Runtime) SandboxInfo(id string) (map[string]string, error) {
	p, err := r.pod(id)
	if err != nil {
		return nil, err
	}
	rec := p.record()
	info := map[string]string{"phase": quote(string(rec.Phase)), "netns": quote(filepath.Join(r.NetnsDir, rec.NetnsName))}
	if len(rec.Network) > 0 {
		info["network"] = string(rec.Network)
	}
	if raw := r.counters(p); raw != "" {
		info["counters"] = raw
	}
	return info, nil
}

// counters are those of the pod's NICs, "" when they cannot be read.
func (r *Runtime) counters(p *pod) string {
	n := p.network()
	if n == nil {
		return ""
	}
	stats, err := n.Stats(r.background)
	if err != nil {
		r.podLog(p).Warn("a pod's network cannot be measured", "error", err)
		return ""
	}
	raw, _ := json.Marshal(stats)
	return string(raw)
}

// ContainerInfo is what a verbose ContainerStatus adds: JSON values by name,
// the exact machine among them.
func (r *Runtime) ContainerInfo(id string) (map[string]string, error) {
	v, err := r.vm(id)
	if err != nil {
		return nil, err
	}
	rec := v.record()
	info := map[string]string{
		"phase":  quote(string(rec.Phase)),
		"cgroup": quote(rec.CgroupPath),
		"debug":  quote(filepath.Join(r.runDir(v.id), debugSocket)),
	}
	if len(rec.Process) > 0 {
		info["process"] = string(rec.Process)
	}
	if raw, err := os.ReadFile(filepath.Join(r.vmDir(v.pod.uid(), v.id), configFile)); err == nil && json.Valid(raw) {
		info["config"] = string(raw)
	}
	return info, nil
}

func quote(s string) string {
	raw, _ := json.Marshal(s)
	return string(raw)
}
