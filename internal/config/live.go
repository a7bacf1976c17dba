package config

// Follow is c as it goes on once the settings are next: those that can change
// while the daemon runs are next's, all others stay, and are Pending where next
// has another value. Neither is changed.
func (c *Config) Follow(next *Config) *Config {
	n := &Config{origins: map[string]Origin{}, Warnings: next.Warnings}
	n.settings = table(n)
	for i, s := range n.settings {
		from, was, is := c, c.settings[i].value.String(), next.settings[i].value.String()
		if s.live {
			from, was = next, is
		} else if is != was {
			n.pending = append(n.pending, Value{Name: s.name, Value: is, Origin: next.origins[s.name]})
		}
		_ = s.value.Set(was) // each value accepts its own text
		n.origins[s.name] = from.origins[s.name]
	}
	return n
}

// Pending lists the settings that the daemon's next start will change, with
// the values that they will have.
func (c *Config) Pending() []Value { return c.pending }

// Changed lists the settings whose values are others than in before.
func (c *Config) Changed(before *Config) []Value {
	var all []Value
	for i, v := range c.Values() {
		if before.settings[i].value.String() != v.Value {
			all = append(all, v)
		}
	}
	return all
}
