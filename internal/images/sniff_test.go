package images

import (
	"strings"
	"testing"
)

func TestLooksLike(t *testing.T) {
	iso := make([]byte, sniffLen)
	copy(iso[0x8001:], "CD001")
	vdi := make([]byte, 100)
	copy(vdi, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	copy(vdi[0x40:], "\x7f\x10\xda\xbe")
	for _, c := range []struct {
		head []byte
		want string
	}{
		{[]byte("<!DOCTYPE HTML>\n<html><head>"), "an HTML page"},
		{[]byte("\n  <html lang=en>"), "an HTML page"},
		{[]byte("<?xml version='1.0'?><Error><Code>AccessDenied"), "an XML document"},
		{[]byte(`{"errors":[{"code":"UNAUTHORIZED"}]}`), "a JSON document"},
		{[]byte("404 page not found"), "text"},
		{[]byte("\ufeff<html>"), "an HTML page"},
		{[]byte("Grüße, 世"), "text"},
		{[]byte("Grüße, 世")[:10], "text"},
		{[]byte("PK\x03\x04...."), "a zip archive"},
		{[]byte("KDMV\x01\x00\x00\x00"), "a VMDK disk"},
		{vdi, "a VDI disk"},
		{iso, "an ISO 9660 image"},
		{testImage(1, 4096), ""},
		{make([]byte, 512), ""},
		{nil, ""},
	} {
		got := looksLike(c.head)
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%.20q: %q instead of %q", c.head, got, c.want)
		}
	}
}

func FuzzLooksLike(f *testing.F) {
	f.Add([]byte("<html>"))
	f.Add([]byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if what := looksLike(head); strings.ContainsAny(what, "\n\x00") || len(what) > 1000 {
			t.Fatalf("%q", what)
		}
	})
}
