package qmp

import "context"

type qomArgument struct {
	Path     string `json:"path"`
	Property string `json:"property,omitempty"`
}

// QOMGet reads a property of an object into out (qom-get).
func (c *Conn) QOMGet(ctx context.Context, path, property string, out any) error {
	return c.Do(ctx, "qom-get", qomArgument{path, property}, out)
}

// QOMSet sets a property of an object (qom-set).
func (c *Conn) QOMSet(ctx context.Context, path, property string, value any) error {
	return c.Do(ctx, "qom-set", struct {
		qomArgument
		Value any `json:"value"`
	}{qomArgument{path, property}, value}, nil)
}

// QOMProperty is a property of an object (QAPI ObjectPropertyInfo).
type QOMProperty struct {
	Name string `json:"name"`
	Type string `json:"type"` // "child<...>" for an object below
}

// QOMList lists the properties of an object (qom-list).
func (c *Conn) QOMList(ctx context.Context, path string) ([]QOMProperty, error) {
	return query[[]QOMProperty](ctx, c, "qom-list", qomArgument{Path: path})
}
