package qmptest

// Refusal is an error that a [Script] answers with.
type Refusal struct{ Class, Desc string }

func (r Refusal) Error() string { return r.Desc }

// Script says how Serve answers: a value by the command's name. A value of type
// func(Command) (any, error) is called.
type Script map[string]any

// Serve negotiates and then answers commands until the connection ends. Commands
// that are not in the script are refused as QEMU refuses unknown ones.
func (p *Peer) Serve(s Script) {
	p.Greet()
	for {
		c, err := p.Read()
		if err != nil {
			return
		}
		p.answer(c, s)
	}
}

func (p *Peer) answer(c Command, s Script) {
	value, known := s[c.Execute]
	if !known && c.Execute == "qmp_capabilities" {
		value, known = struct{}{}, true
	}
	if !known {
		p.Refuse(c, "CommandNotFound", "The command "+c.Execute+" has not been found")
		return
	}
	var err error
	if f, ok := value.(func(Command) (any, error)); ok {
		value, err = f(c)
	}
	switch e := err.(type) {
	case nil:
		p.Return(c, value)
	case Refusal:
		p.Refuse(c, e.Class, e.Desc)
	default:
		p.Refuse(c, "GenericError", e.Error())
	}
}
