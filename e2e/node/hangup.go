package node

// HangUp closes the terminal, as a person does who closes its window.
func (c *Console) HangUp() { c.person.Close() }
