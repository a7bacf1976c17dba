package qmp

import "time"

// SetPatience sets how long an agent may be silent.
func (a *Agent) SetPatience(d time.Duration) { a.patience = d }
