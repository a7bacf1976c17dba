package images

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

const hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestParseName(t *testing.T) {
	for _, c := range []struct{ in, str, key, link string }{
		{"cirros", "cirros:latest", "cirros:latest", "cirros:latest"},
		{"cirros:latest", "cirros:latest", "cirros:latest", "cirros:latest"},
		{"virtlet.cloud/cirros", "virtlet.cloud/cirros:latest", "cirros:latest", "cirros"},
		{"virtlet.cloud/cirros:0.5", "virtlet.cloud/cirros:0.5", "cirros:0.5", "virtlet.cloud%cirros:0.5"},
		{"cirros@sha256:" + hexA, "cirros@sha256:" + hexA, "cirros@sha256:" + hexA, "cirros@sha256:" + hexA},
		{"cirros:0.5@sha256:" + hexA, "cirros@sha256:" + hexA, "cirros@sha256:" + hexA, "cirros@sha256:" + hexA},
		{"virtlet.cloud/example.com/a/b.qcow2", "virtlet.cloud/example.com/a/b.qcow2:latest", "example.com/a/b.qcow2:latest", "example.com%a%b.qcow2"},
		{"localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest", "localhost:5000%x:latest"},
		{"registry.example/e2e/x:1.2", "registry.example/e2e/x:1.2", "registry.example/e2e/x:1.2", "registry.example%e2e%x:1.2"},
	} {
		n, err := ParseName(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if n.String() != c.str || n.key() != c.key || n.linkName() != c.link {
			t.Errorf("%s: got %s, %s, %s", c.in, n, n.key(), n.linkName())
		}
		if back := parseLinkName(c.link); back != n {
			t.Errorf("%s: link is read as %+v instead of %+v", c.in, back, n)
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	for _, in := range []string{
		"", "virtlet.cloud/", "../etc/passwd", "a/../b", "a/./b", "/etc/passwd", "a//b", "a/", "a%b", "a b", "a\x00b", "a\nb",
		"Cirros", "https://example.com/x", "example.com/x?y=1", "x:", "x@", "@sha256:" + hexA, "x@sha256:abc", "x@md5:" + hexA,
		"x@sha512:" + hexA + hexA, hexA, "sha256:" + hexA, "virtlet.cloud/" + hexA, "user:password@example.com/x",
		strings.Repeat("a", 300), "x:" + strings.Repeat("a", 129), "a/" + strings.Repeat("b", 200) + ":" + strings.Repeat("c", 128),
	} {
		if n, err := ParseName(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %+v, %v", in, n, err)
		}
	}
}

func TestParseLinkNameOfVirtlet(t *testing.T) {
	for file, want := range map[string]string{
		"cirros":                      "virtlet.cloud/cirros:latest",
		"example.com%images%x.qcow2":  "virtlet.cloud/example.com/images/x.qcow2:latest",
		"localhost:5000%x":            "virtlet.cloud/localhost:5000/x:latest",
		"NOT a reference?":            "virtlet.cloud/NOT a reference?:latest",
		"virtlet.cloud%cirros":        "virtlet.cloud/cirros:latest",
		"virtlet.cloud%cirros:latest": "virtlet.cloud/cirros:latest",
	} {
		if n := parseLinkName(file); n.String() != want {
			t.Errorf("%s: %s instead of %s", file, n, want)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"cirros", "virtlet.cloud/a/b:c", "x@sha256:" + hexA, "[::1]:5000/x", "a/../b", "virtlet.cloud/virtlet.cloud/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			return
		}
		link := n.linkName()
		if strings.ContainsAny(link, "/\x00") || link == "." || link == ".." || link == "" || len(link) > maxLinkName {
			t.Fatalf("%q: link name %q", s, link)
		}
		if back := parseLinkName(link); back != n {
			t.Fatalf("%q: %+v comes back as %+v", s, n, back)
		}
		again, err := ParseName(n.String())
		if err != nil || again != n {
			t.Fatalf("%q: %q parses as %+v, %v", s, n.String(), again, err)
		}
	})
}

func FuzzParseLinkName(f *testing.F) {
	for _, s := range []string{"cirros", "a%b:c", "x@sha256:" + hexA, ":", "%", "@sha256:" + hexA} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, file string) {
		n := parseLinkName(file)
		if (n.Tag == "") == (n.Digest == "") {
			t.Fatalf("%q: %+v", file, n)
		}
	})
}
