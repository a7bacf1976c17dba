package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qemulet/qemulet/e2e/node"
)

const clusterDomain = ".svc.cluster.local."

// dnsServer answers at the address that kubelet tells pods, by UDP: services' addresses, and the pods of headless services, as CoreDNS
// would. It asks the API server for each question, and knows no other names.
type dnsServer struct {
	conn net.PacketConn
	api  *http.Client
	done chan struct{}
}

func (c *Cluster) startDNS(tb testing.TB) {
	tb.Helper()
	s := &dnsServer{api: c.httpClient(), done: make(chan struct{})}
	must(tb, node.InNamespace(c.netns(), func() (err error) {
		s.conn, err = net.ListenPacket("udp", NodeIP+":53")
		return err
	}))
	c.dns = s
	go s.serve()
}

func (s *dnsServer) close() {
	s.conn.Close()
	<-s.done
}

func (s *dnsServer) serve() {
	defer close(s.done)
	buf := make([]byte, 512)
	for {
		n, peer, err := s.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if answer := s.answer(buf[:n]); answer != nil {
			s.conn.WriteTo(answer, peer)
		}
	}
}

// answer is nil for what is no question.
func (s *dnsServer) answer(packet []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(packet) != nil || m.Response || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true}
	m.Additionals = nil
	addresses, err := s.lookup(strings.ToLower(q.Name.String()))
	switch {
	case errors.Is(err, errNoName):
		m.RCode = dnsmessage.RCodeNameError
	case err != nil:
		m.RCode = dnsmessage.RCodeServerFailure
	case q.Type == dnsmessage.TypeA:
		for _, a := range addresses {
			header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 5}
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

var errNoName = errors.New("no such name")

// lookup resolves SERVICE.NAMESPACE.svc.cluster.local, and HOST before that when the service is headless.
func (s *dnsServer) lookup(name string) ([]netip.Addr, error) {
	rest, ours := strings.CutSuffix(name, clusterDomain)
	labels := strings.Split(rest, ".")
	if !ours || len(labels) < 2 || len(labels) > 3 {
		return nil, errNoName
	}
	service, namespace := labels[len(labels)-2], labels[len(labels)-1]
	var object struct{ Spec struct{ ClusterIP string } }
	if err := s.get(&object, "/api/v1/namespaces/%s/services/%s", namespace, service); err != nil {
		return nil, err
	}
	if object.Spec.ClusterIP == "None" {
		return s.pods(service, namespace, labels[:len(labels)-2])
	}
	address, err := netip.ParseAddr(object.Spec.ClusterIP)
	if err != nil || len(labels) > 2 {
		return nil, errNoName
	}
	return []netip.Addr{address}, nil
}

// pods are the addresses of a headless service's pods that are ready; of all, or of the one with the host name.
func (s *dnsServer) pods(service, namespace string, host []string) (found []netip.Addr, err error) {
	var list struct {
		Items []struct {
			Endpoints []struct {
				Addresses  []netip.Addr
				Hostname   string
				Conditions struct{ Ready bool }
			}
		}
	}
	err = s.get(&list, "/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices?labelSelector=kubernetes.io/service-name=%s", namespace, service)
	for _, slice := range list.Items {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready && (len(host) == 0 || host[0] == e.Hostname) {
				found = append(found, e.Addresses...)
			}
		}
	}
	if err == nil && len(found) == 0 {
		err = errNoName
	}
	return found, err
}

func (s *dnsServer) get(into any, path string, args ...any) error {
	r, err := http.NewRequest(http.MethodGet, "https://127.0.0.1:6443"+fmt.Sprintf(path, args...), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	answer, err := s.api.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(answer.Body).Decode(into)
	case http.StatusNotFound:
		return errNoName
	}
	return errors.New(answer.Status)
}
