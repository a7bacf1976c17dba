package cloudinit

// Merge puts override over base and returns a new map; neither is changed, but
// values may be shared with the result. Keys of both are kept. Where both have
// one: mappings are merged in the same way, lists are joined, base first, and
// otherwise override wins; null in override removes the key.
func Merge(base, override map[string]any) map[string]any {
	merged := make(map[string]any, len(base)+len(override))
	for key, value := range base {
		merged[key] = value
	}
	for key, value := range override {
		old, both := base[key]
		switch {
		case both && value == nil:
			delete(merged, key)
		case both:
			merged[key] = mergeValue(old, value)
		default:
			merged[key] = value
		}
	}
	return merged
}

func mergeValue(base, override any) any {
	switch o := override.(type) {
	case map[string]any:
		if b, ok := base.(map[string]any); ok {
			return Merge(b, o)
		}
	case []any:
		if b, ok := base.([]any); ok {
			joined := make([]any, 0, len(b)+len(o))
			return append(append(joined, b...), o...)
		}
	}
	return override
}
