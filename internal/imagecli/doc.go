// Package imagecli is what people do with images: `qemulet image`. It asks a
// daemon, over CRI for what kubelet does too and over the api socket for the
// rest, and writes the answers for people or as JSON.
package imagecli
