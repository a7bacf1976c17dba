package runtime

import (
	"bufio"
	"fmt"
	"image"
	"image/png"
	"io"

	"github.com/qemulet/qemulet/qemu"
)

// maxScreen bounds a picture, in pixels, and what the daemon spends on one: the
// card's memory at two bytes each.
const maxScreen = qemu.DisplayMiB << 20 / 2

// pngOfPPM turns a picture as QEMU writes it (PPM, P6, 255 colours) into a PNG.
func pngOfPPM(from io.Reader, to io.Writer) error {
	r := bufio.NewReader(from)
	var width, height, most int
	if _, err := fmt.Fscanf(r, "P6\n%d %d\n%d\n", &width, &height, &most); err != nil {
		return fmt.Errorf("QEMU's picture is no PPM: %w", err)
	}
	if width < 1 || height < 1 || most != 255 || width > maxScreen/height {
		return fmt.Errorf("QEMU's picture has %dx%d pixels and %d colours, up to %d and just 255 are accepted", width, height, most, maxScreen)
	}
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	row := make([]byte, 3*width)
	for y := range height {
		if _, err := io.ReadFull(r, row); err != nil {
			return fmt.Errorf("QEMU's picture ends in line %d of %d: %w", y, height, err)
		}
		pixels := img.Pix[y*img.Stride:]
		for x := range width {
			copy(pixels[4*x:], row[3*x:3*x+3])
			pixels[4*x+3] = 0xff
		}
	}
	return png.Encode(to, img)
}
