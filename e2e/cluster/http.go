package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// Dial connects from inside, as a program of the node would. The address is numeric.
func (c *Cluster) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = node.InNamespace(c.netns(), func() error {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// httpClient asks from inside, with a new connection each time, and believes any certificate.
func (c *Cluster) httpClient() *http.Client {
	transport := &http.Transport{DialContext: c.Dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	return &http.Client{Timeout: 5 * time.Second, Transport: transport}
}

// httpGet gets a page from inside.
func (c *Cluster) httpGet(url string) (string, error) {
	answer, err := c.httpClient().Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	return string(page), err
}
