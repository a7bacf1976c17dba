package qmp

import "context"

// AddVNCClient hands the machine's VNC server a connection that was passed with
// GetFD under this name (add_client). A VNC password is not asked for: who has the
// monitor needs none.
func (c *Conn) AddVNCClient(ctx context.Context, fdname string) error {
	return c.Do(ctx, "add_client", struct {
		Protocol string `json:"protocol"`
		FDName   string `json:"fdname"`
		SkipAuth bool   `json:"skipauth"`
	}{"vnc", fdname, true}, nil)
}
