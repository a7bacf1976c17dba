package cri

import "strings"

// needID refuses an empty id, which is the beginning of every id.
func needID(field, id string) error {
	if id == "" {
		return invalid("%s is missing", field)
	}
	return nil
}

// wanted tells whether a filter's id, full or the beginning of one, picks an
// object. An empty filter picks every object, one that matches nothing none:
// that is an empty list, and no error.
func wanted(filter, id string) bool { return strings.HasPrefix(id, filter) }

// selected tells whether an object has all labels of a selector.
func selected(selector, labels map[string]string) bool {
	for key, value := range selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}
