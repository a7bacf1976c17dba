package qmp

import "context"

// CPUPlace is where a virtual CPU sits (QAPI CpuInstanceProperties). A field is
// nil if the machine type does not have it.
type CPUPlace struct {
	NodeID   *int `json:"node-id,omitempty"`
	SocketID *int `json:"socket-id,omitempty"`
	DieID    *int `json:"die-id,omitempty"`
	CoreID   *int `json:"core-id,omitempty"`
	ThreadID *int `json:"thread-id,omitempty"`
}

// CPU is one virtual CPU (QAPI CpuInfoFast).
type CPU struct {
	Index    int      `json:"cpu-index"`
	QOMPath  string   `json:"qom-path"`
	ThreadID int      `json:"thread-id"` // of the host
	Target   string   `json:"target"`
	Props    CPUPlace `json:"props"`
}

// QueryCPUsFast lists the virtual CPUs without interrupting them (query-cpus-fast).
func (c *Conn) QueryCPUsFast(ctx context.Context) ([]CPU, error) {
	return query[[]CPU](ctx, c, "query-cpus-fast", nil)
}

// HotpluggableCPU is a place for a virtual CPU (QAPI HotpluggableCPU).
type HotpluggableCPU struct {
	Type    string   `json:"type"` // driver for device_add
	VCPUs   int      `json:"vcpus-count"`
	Props   CPUPlace `json:"props"`
	QOMPath string   `json:"qom-path,omitempty"` // empty: the place is free
}

// QueryHotpluggableCPUs lists the places, taken and free (query-hotpluggable-cpus).
func (c *Conn) QueryHotpluggableCPUs(ctx context.Context) ([]HotpluggableCPU, error) {
	return query[[]HotpluggableCPU](ctx, c, "query-hotpluggable-cpus", nil)
}

// CPUDefinition is a CPU model of the binary (QAPI CpuDefinitionInfo).
type CPUDefinition struct {
	Name                string   `json:"name"`
	TypeName            string   `json:"typename"`
	AliasOf             string   `json:"alias-of,omitempty"`
	Static              bool     `json:"static"`
	MigrationSafe       bool     `json:"migration-safe,omitempty"`
	Deprecated          bool     `json:"deprecated"`
	UnavailableFeatures []string `json:"unavailable-features,omitempty"` // on this host and accelerator
}

// QueryCPUDefinitions lists the CPU models (query-cpu-definitions).
func (c *Conn) QueryCPUDefinitions(ctx context.Context) ([]CPUDefinition, error) {
	return query[[]CPUDefinition](ctx, c, "query-cpu-definitions", nil)
}

// CPUModel is a CPU model with properties (QAPI CpuModelInfo).
type CPUModel struct {
	Name  string         `json:"name"`
	Props map[string]any `json:"props,omitempty"`
}

// QueryCPUModelExpansion says what properties a model has (query-cpu-model-expansion).
// kind is "static" or "full".
func (c *Conn) QueryCPUModelExpansion(ctx context.Context, kind string, m CPUModel) (CPUModel, error) {
	type expansion struct {
		Type  string   `json:"type,omitempty"`
		Model CPUModel `json:"model"`
	}
	r, err := query[expansion](ctx, c, "query-cpu-model-expansion", expansion{kind, m})
	return r.Model, err
}
