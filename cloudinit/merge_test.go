package cloudinit

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

func parse(t testing.TB, text string) map[string]any {
	t.Helper()
	m := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMerge(t *testing.T) {
	for name, c := range map[string]struct{ base, override, want string }{
		"union":             {"a: 1", "b: 2", "{a: 1, b: 2}"},
		"scalar":            {"a: 1", "a: 2", "a: 2"},
		"scalar types":      {"a: 1", "a: x", "a: x"},
		"false wins":        {"a: true", "a: false", "a: false"},
		"empty text wins":   {"a: x", "a: ''", "a: ''"},
		"lists join":        {"a: [1, 2]", "a: [2, 3]", "a: [1, 2, 2, 3]"},
		"empty list":        {"a: [1]", "a: []", "a: [1]"},
		"maps":              {"a: {b: 1, c: [1]}", "a: {c: [2], d: 3}", "a: {b: 1, c: [1, 2], d: 3}"},
		"list over text":    {"a: x", "a: [1]", "a: [1]"},
		"text over list":    {"a: [1]", "a: x", "a: x"},
		"map over list":     {"a: [1]", "a: {b: 1}", "a: {b: 1}"},
		"list over map":     {"a: {b: 1}", "a: [1]", "a: [1]"},
		"null removes":      {"{a: 1, b: 2}", "a: null", "b: 2"},
		"null, deep":        {"a: {b: 1, c: 2}", "a: {b: null}", "a: {c: 2}"},
		"null, new":         {"a: 1", "b: null", "{a: 1, b: null}"},
		"null in base":      {"a: null", "a: 1", "a: 1"},
		"null in base, map": {"a: null", "a: {b: 1}", "a: {b: 1}"},
		"null and null":     {"a: null", "a: null", "{}"},
		"nothing":           {"{}", "{}", "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			base, override := parse(t, c.base), parse(t, c.override)
			if got, want := Merge(base, override), parse(t, c.want); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if !reflect.DeepEqual(base, parse(t, c.base)) || !reflect.DeepEqual(override, parse(t, c.override)) {
				t.Errorf("changed its arguments: %v, %v", base, override)
			}
		})
	}
}

// anyValue draws what YAML can hold.
func anyValue(depth int) *rapid.Generator[any] {
	scalar := rapid.OneOf(rapid.Just[any](nil), rapid.Just[any](true), rapid.Just[any](json.Number("7")), rapid.Just[any]("x"))
	if depth == 0 {
		return scalar
	}
	list := rapid.Map(rapid.SliceOfN(anyValue(depth-1), 0, 3), func(l []any) any { return append([]any{}, l...) })
	return rapid.OneOf(scalar, list, rapid.Map(anyMap(depth), func(m map[string]any) any { return m }))
}

func anyMap(depth int) *rapid.Generator[map[string]any] {
	return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), anyValue(depth-1), 0, 3)
}

func clone(t *rapid.T, m map[string]any) map[string]any {
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c := map[string]any{}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever is merged: nothing changes the arguments, merging with nothing
// changes nothing, and every key comes from one side or the other.
func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, override := anyMap(3).Draw(t, "base"), anyMap(3).Draw(t, "override")
		base, override = clone(t, base), clone(t, override)
		baseWas, overrideWas := clone(t, base), clone(t, override)
		merged := Merge(base, override)
		if !reflect.DeepEqual(base, baseWas) || !reflect.DeepEqual(override, overrideWas) {
			t.Fatal("changed its arguments")
		}
		if !reflect.DeepEqual(Merge(base, nil), base) || !reflect.DeepEqual(Merge(nil, override), override) {
			t.Fatal("nothing is not neutral")
		}
		for key := range merged {
			if _, ok := base[key]; !ok {
				if _, ok := override[key]; !ok {
					t.Fatalf("key %q comes from nowhere", key)
				}
			}
		}
		for key, value := range override {
			if old, both := base[key]; value == nil && both {
				if _, ok := merged[key]; ok {
					t.Fatalf("null did not remove %q (%v)", key, old)
				}
			}
		}
	})
}

// What two documents make together can be rendered and read again, and merging
// never changes what it was given.
func FuzzMerge(f *testing.F) {
	f.Add("{a: 1, l: [x], m: {k: v}}", "{a: null, l: [y], m: {k: [v]}, n: {}}")
	f.Add("users: [default]", "users: {}")
	f.Add("", "a: &x {b: 1}\nc: *x")
	f.Fuzz(func(t *testing.T, first, second string) {
		var base, override map[string]any
		if yaml.Unmarshal([]byte(first), &base) != nil || yaml.Unmarshal([]byte(second), &override) != nil {
			return
		}
		before, err := json.Marshal([]any{base, override})
		if err != nil {
			return
		}
		merged := Merge(base, override)
		if _, err := json.Marshal(merged); err != nil {
			t.Errorf("the result cannot be rendered: %v", err)
		}
		if after, _ := json.Marshal([]any{base, override}); string(after) != string(before) {
			t.Errorf("changed %s to %s", before, after)
		}
		if len(merged) > len(base)+len(override) {
			t.Errorf("%d keys of %d and %d", len(merged), len(base), len(override))
		}
	})
}
