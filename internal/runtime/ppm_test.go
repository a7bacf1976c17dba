package runtime

import (
	"bytes"
	"image/color"
	"image/png"
	"io"
	"strings"
	"testing"
)

func TestPNGOfPPM(t *testing.T) {
	var out bytes.Buffer
	// The last byte of the header is followed by one that could be white space.
	if err := pngOfPPM(strings.NewReader("P6\n2 1\n255\n\n\x02\x03\xff\xfe\xfd"), &out); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	if b := img.Bounds(); b.Dx() != 2 || b.Dy() != 1 {
		t.Errorf("%v", b)
	}
	for x, want := range []color.NRGBA{{10, 2, 3, 255}, {255, 254, 253, 255}} {
		if got := color.NRGBAModel.Convert(img.At(x, 0)); got != want {
			t.Errorf("pixel %d: %v, want %v", x, got, want)
		}
	}
}

func TestPNGOfBadPPM(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"empty":      {"", "no PPM"},
		"PNG":        {"\x89PNG\r\n", "no PPM"},
		"text PPM":   {"P3\n1 1\n255\n1 2 3", "no PPM"},
		"cut off":    {"P6\n2 2\n255\nxxxxxx", "line 1 of 2"},
		"no pixels":  {"P6\n0 7\n255\n", "0x7"},
		"negative":   {"P6\n-1 -1\n255\n", "-1x-1"},
		"huge":       {"P6\n99999999 99999999\n255\n", "pixels"},
		"16 bits":    {"P6\n1 1\n65535\nxxxxxx", "65535 colours"},
		"overflowed": {"P6\n99999999999999999999 1\n255\n", "no PPM"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := pngOfPPM(strings.NewReader(test.in), io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
