package runtime

import (
	"context"
	"fmt"
)

// Conditions tells whether VMs can be started and connected, with the reason
// in words when they cannot.
func (r *Runtime) Conditions(ctx context.Context) []Condition {
	return []Condition{r.runtimeReady(ctx), r.networkReady(ctx)}
}

func (r *Runtime) runtimeReady(ctx context.Context) Condition {
	state, err := r.Hypervisor.Ready(ctx)
	if err != nil {
		return Condition{Type: ConditionRuntimeReady, Reason: "QEMUNotUsable", Message: err.Error()}
	}
	c := Condition{Type: ConditionRuntimeReady, Status: true}
	if state.Accel.Fallback {
		c.Reason, c.Message = "NoKVM", fmt.Sprintf("VMs are emulated and slow: %s", state.Accel.Reason)
	}
	return c
}

func (r *Runtime) networkReady(ctx context.Context) Condition {
	if err := r.Network.Status(ctx); err != nil {
		return Condition{Type: ConditionNetworkReady, Reason: "CNINotReady", Message: err.Error()}
	}
	return Condition{Type: ConditionNetworkReady, Status: true}
}
