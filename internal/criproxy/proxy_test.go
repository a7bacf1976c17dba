package criproxy

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/changes"
	"github.com/qemulet/qemulet/internal/ids"
)

var (
	discard             = slog.New(slog.DiscardHandler)
	insecureCredentials = grpc.WithTransportCredentials(insecure.NewCredentials())
)

func TestSandboxesGoWhereTheyBelong(t *testing.T) {
	n := newNode(t)
	for _, c := range []struct {
		handler     string
		annotations map[string]string
		to          *fake
		words       []string
	}{
		{"", nil, n.primary, nil},
		{"runc", nil, n.primary, nil},
		{"", vmPod, n.vm, nil},
		{"virtlet", nil, n.vm, nil},
		{"virtlet", vmPod, n.vm, nil},
		{"runc", vmPod, nil, []string{TargetRuntimeAnnotation, "virtlet.cloud", `"runc"`}},
		{"virtlet", map[string]string{TargetRuntimeAnnotation: "docker"}, nil, []string{`"docker"`, `accepted is "virtlet.cloud"`}},
		{"", map[string]string{TargetRuntimeAnnotation: "nosuch"}, nil, []string{`"nosuch"`, "leave it out"}},
	} {
		req := &runtimeapi.RunPodSandboxRequest{RuntimeHandler: c.handler, Config: &runtimeapi.PodSandboxConfig{Annotations: c.annotations}}
		_, err := n.runtime.RunPodSandbox(t.Context(), req)
		if c.to == nil {
			fails(t, err, codes.InvalidArgument, c.words...)
		} else {
			check(t, err)
			same(t, c.to.name, c.to.called(), []string{"RunPodSandbox"})
		}
		same(t, "the others", append(n.primary.called(), n.vm.called()...), nil)
	}
}

func TestIDsDecide(t *testing.T) {
	n := newNode(t)
	_, ordinary := n.pod(t, "ordinary", nil)
	_, vm := n.pod(t, "vm", vmPod)
	for id, want := range map[string]string{ordinary: "primary", vm: "vm", "": "primary", "ffff": "primary", vm[:12]: "vm"} {
		got, err := n.runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
		check(t, err)
		if got.GetStatus().GetImageRef() != want {
			t.Errorf("%q went to %s, not to %s", id, got.GetStatus().GetImageRef(), want)
		}
	}
}

// One in 2^32 of the primary's random ids looks like the VM runtime's.
func TestTheOthersIDThatLooksLikeOurs(t *testing.T) {
	n := newNode(t)
	n.primary.set(func() { n.primary.lead = ids.Lead + "ff" })
	_, id := n.pod(t, "unlucky", nil)
	n.stopProxy(t)
	n.startProxy(t)
	got, err := n.runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	check(t, err)
	if got.GetStatus().GetImageRef() != "primary" {
		t.Errorf("%s went to %s", id, got.GetStatus().GetImageRef())
	}
}

func TestListsAreWhole(t *testing.T) {
	n := newNode(t)
	_, ordinary := n.pod(t, "ordinary", nil)
	sandbox, vm := n.pod(t, "vm", vmPod)
	both := []string{ordinary, vm}
	same(t, "both there", n.containers(t), both)

	n.vm.stop()
	same(t, "without the VM runtime", n.containers(t), both)
	same(t, "sandboxes", n.sandboxes(t, nil), []string{"ordinary", "vm"})
	same(t, "by id", n.sandboxes(t, &runtimeapi.PodSandboxFilter{Id: sandbox}), []string{"vm"})
	same(t, "by another id", n.sandboxes(t, &runtimeapi.PodSandboxFilter{Id: ids.Lead + "77"}), nil)
	same(t, "by label", n.sandboxes(t, &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"pod": "vm"}}), []string{"ordinary", "vm"}) // the fake does not filter
	_, err := n.runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: vm})
	fails(t, err, codes.Unavailable, "the VM runtime at "+n.vm.socket)
	_, err = n.runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: &runtimeapi.PodSandboxConfig{Annotations: vmPod}})
	fails(t, err, codes.Unavailable, "the VM runtime at "+n.vm.socket)

	n.stopProxy(t)
	n.startProxy(t)
	same(t, "after a restart of the proxy", n.containers(t), both)

	n.vm.start(t)
	awaitContainers(t, n, both)
	n.vm.set(func() { n.vm.containers = nil })
	awaitContainers(t, n, []string{ordinary})
}

func awaitContainers(t *testing.T, n *node, want []string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !slices.Equal(n.containers(t), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("containers are %v, want %v", n.containers(t), want)
		}
	}
}

// A runtime that dies right after it has made something must not make kubelet
// believe that it is gone.
func TestWhatWasJustMadeIsKnown(t *testing.T) {
	n := newNode(t)
	_, vm := n.pod(t, "vm", vmPod)
	n.vm.stop()
	got, err := n.runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{
		Filter: &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}},
	})
	check(t, err)
	if len(got.Containers) != 1 || got.Containers[0].Id != vm || got.Containers[0].GetMetadata().GetName() != "vm" {
		t.Errorf("containers: %v", got.Containers)
	}
}

func TestRemovedPodsStayRemoved(t *testing.T) {
	n := newNode(t)
	sandbox, _ := n.pod(t, "vm", vmPod)
	n.sandboxes(t, nil)
	_, err := n.runtime.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox})
	check(t, err)
	n.vm.stop()
	same(t, "sandboxes", n.sandboxes(t, nil), nil)
	same(t, "containers", n.containers(t), nil)
}

func TestWithoutThePrimaryThereIsNoList(t *testing.T) {
	n := newNode(t)
	_, vm := n.pod(t, "vm", vmPod)
	n.primary.stop()
	_, err := n.runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	fails(t, err, codes.Unavailable)
	_, err = n.runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: vm})
	check(t, err)
}

func TestAHangingVMRuntime(t *testing.T) {
	n := newNode(t)
	n.options.Patience = 200 * time.Millisecond
	n.stopProxy(t)
	n.startProxy(t)
	_, vm := n.pod(t, "vm", vmPod)
	hang := make(chan struct{})
	n.vm.set(func() { n.vm.hang = hang })
	for range 3 {
		same(t, "containers", n.containers(t), []string{vm})
	}
	_, err := n.runtime.Version(t.Context(), &runtimeapi.VersionRequest{})
	check(t, err)
	close(hang)
	same(t, "containers", n.containers(t), []string{vm})
}

// Nothing but what is new about VMs waits for the disk that it is written to.
func TestADiskThatHangs(t *testing.T) {
	n := newNode(t)
	_, ordinary := n.pod(t, "ordinary", nil)
	sandbox, _ := n.pod(t, "vm", vmPod)
	pipe := filepath.Join(n.options.StateDir, "sandboxes.pb.new")
	check(t, unix.Mkfifo(pipe, 0o600)) // who writes to it waits for a reader
	removed := make(chan error, 1)
	go func() {
		_, err := n.runtime.RemovePodSandbox(context.Background(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox})
		removed <- err
	}()
	for range 3 {
		same(t, "an ordinary pod's containers", n.containers(t)[:1], []string{ordinary})
		_, err := n.runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: ordinary})
		check(t, err)
		_, err = n.images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: "busybox"}})
		check(t, err)
	}
	_, err := os.ReadFile(pipe)
	check(t, err)
	check(t, <-removed)
}

func TestErrorsPassUnchanged(t *testing.T) {
	n := newNode(t)
	sent, err := status.New(codes.DeadlineExceeded, "the probe took too long").WithDetails(&errdetails.ErrorInfo{Reason: "SLOW"})
	check(t, err)
	n.primary.set(func() { n.primary.statusErr = sent.Err() })
	_, err = n.runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: "x"})
	if got := status.Convert(err); !proto.Equal(got.Proto(), sent.Proto()) {
		t.Errorf("%v, want %v", got.Proto(), sent.Proto())
	}
	_, err = n.runtime.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: "x"})
	fails(t, err, codes.Unimplemented)
}

func TestMetadataAndDeadlinesPass(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-1-2-01"), time.Minute)
	defer cancel()
	want, _ := ctx.Deadline()
	var header metadata.MD
	_, err := n.runtime.Version(ctx, &runtimeapi.VersionRequest{}, grpc.Header(&header))
	check(t, err)
	n.primary.set(func() {
		same(t, "traceparent", n.primary.seen["traceparent"], []string{"00-1-2-01"})
		if off := n.primary.deadline.Sub(want).Abs(); off > time.Second {
			t.Errorf("the deadline is off by %v", off)
		}
	})
	same(t, "header", header["from"], []string{"primary"})
}

func TestCancellationPasses(t *testing.T) {
	n := newNode(t)
	n.primary.set(func() { n.primary.hang = make(chan struct{}) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := n.runtime.Version(ctx, &runtimeapi.VersionRequest{})
	fails(t, err, codes.DeadlineExceeded)
}

// future is a runtime with a method of a CRI to come.
func future(t *testing.T, f *fake) {
	f.stop()
	f.server = grpc.NewServer(grpc.ForceServerCodecV2(codec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		for {
			in := new(frame)
			if err := s.RecvMsg(in); err != nil {
				return ignoreEOF(err)
			}
			if err := s.SendMsg(newFrame(append([]byte(f.name+":"), in.bytes()...))); err != nil {
				return err
			}
		}
	}))
	f.l = listen(t, f.socket)
	go f.server.Serve(f.l)
}

func TestFutureMethodsPass(t *testing.T) {
	n := newNode(t)
	future(t, n.primary)
	future(t, n.vm)
	b, err := newBackend(n.socket)
	check(t, err)
	defer b.conn.Close()
	for method, to := range map[string]string{runtimeService + "FuturePod": "vm", "/runtime.v2.RuntimeService/FuturePod": "primary"} {
		request := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), ids.Lead+"0")
		request = append(request, 0xf8, 0x7f, 0x01) // a field that nobody knows
		out, err := b.invoke(t.Context(), method, newFrame(request))
		check(t, err)
		if want := append([]byte(to+":"), request...); !bytes.Equal(out.bytes(), want) {
			t.Errorf("%s: %q, want %q", method, out.bytes(), want)
		}
	}
	s, err := b.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, runtimeService+"FutureStream")
	check(t, err)
	for _, word := range []string{"one", "two", "three"} {
		check(t, s.SendMsg(newFrame([]byte(word))))
		got := new(frame)
		check(t, s.RecvMsg(got))
		if string(got.bytes()) != "primary:"+word {
			t.Errorf("%q", got.bytes())
		}
	}
	check(t, s.CloseSend())
	if err := s.RecvMsg(new(frame)); ignoreEOF(err) != nil {
		t.Error(err)
	}
}

func TestStatusNeverBlamesTheNode(t *testing.T) {
	n := newNode(t)
	for _, up := range []bool{true, false} {
		if !up {
			n.vm.stop()
		}
		got, err := n.runtime.Status(t.Context(), &runtimeapi.StatusRequest{})
		check(t, err)
		conditions := map[string]bool{}
		for _, c := range got.GetStatus().GetConditions() {
			conditions[c.GetType()] = c.GetStatus()
		}
		if len(conditions) != 3 || !conditions["RuntimeReady"] || !conditions["NetworkReady"] || conditions[VMCondition] != up {
			t.Errorf("VM runtime up: %v, conditions: %v", up, got.GetStatus().GetConditions())
		}
		var handlers []string
		for _, h := range got.GetRuntimeHandlers() {
			handlers = append(handlers, h.GetName())
		}
		same(t, "handlers", handlers, []string{"", "primary", "virtlet"})
	}
}

func TestImagesGoWhereTheyBelong(t *testing.T) {
	n := newNode(t)
	known, unknown := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	n.vm.set(func() { n.vm.images = []*runtimeapi.Image{{Id: known, Size: 1}} })
	_, err := n.images.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	check(t, err)
	n.vm.set(func() { n.vm.images = append(n.vm.images, &runtimeapi.Image{Id: unknown, Size: 1}) })
	n.primary.called()
	n.vm.called()
	for _, c := range []struct {
		spec        *runtimeapi.ImageSpec
		primary, vm []string
	}{
		{&runtimeapi.ImageSpec{Image: "nginx"}, []string{"ImageStatus"}, nil},
		{&runtimeapi.ImageSpec{Image: "virtlet.cloud/nginx"}, nil, []string{"ImageStatus"}},
		{&runtimeapi.ImageSpec{Image: "nginx", Annotations: vmPod}, nil, []string{"ImageStatus"}},
		{&runtimeapi.ImageSpec{Image: "nginx", RuntimeHandler: "virtlet"}, nil, []string{"ImageStatus"}},
		{&runtimeapi.ImageSpec{Image: known}, nil, []string{"ImageStatus"}},
		{&runtimeapi.ImageSpec{Image: unknown}, []string{"ImageStatus"}, []string{"ImageStatus"}},
	} {
		got, err := n.images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: c.spec})
		check(t, err)
		same(t, "primary for "+c.spec.String(), n.primary.called(), c.primary)
		same(t, "vm for "+c.spec.String(), n.vm.called(), c.vm)
		if isID(c.spec.Image) && got.GetImage().GetId() != c.spec.Image {
			t.Errorf("%s was not found: %v", c.spec.Image, got)
		}
	}
	pulled, err := n.images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "x"}, SandboxConfig: &runtimeapi.PodSandboxConfig{Annotations: vmPod}})
	check(t, err)
	if pulled.ImageRef != "vm" {
		t.Errorf("pulled by %s", pulled.ImageRef)
	}
	n.primary.called()
	n.vm.called()
	_, err = n.images.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: unknown}})
	check(t, err)
	same(t, "both", append(n.primary.called(), n.vm.called()...), []string{"RemoveImage", "RemoveImage"})
	n.vm.stop()
	_, err = n.images.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: unknown}})
	fails(t, err, codes.Unavailable)
}

func TestFileSystemsAndMetrics(t *testing.T) {
	n := newNode(t)
	for range 2 {
		d, err := n.runtime.ListMetricDescriptors(t.Context(), &runtimeapi.ListMetricDescriptorsRequest{})
		check(t, err)
		var names []string
		for _, m := range d.GetDescriptors() {
			names = append(names, m.GetName()+"/"+m.GetHelp())
		}
		same(t, "descriptors", names, []string{"shared/primary", "primary/", "vm/"})
		n.vm.stop() // kubelet asks once, perhaps at that moment
	}
	n.vm.start(t)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		fs, err := n.images.ImageFsInfo(t.Context(), &runtimeapi.ImageFsInfoRequest{})
		check(t, err)
		if got := fs.GetImageFilesystems(); len(got) == 2 && got[0].GetFsId().GetMountpoint() == "/primary" && got[1].GetFsId().GetMountpoint() == "/vm" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(fs)
		}
	}
}

func TestStreamedLists(t *testing.T) {
	n := newNode(t)
	_, ordinary := n.pod(t, "ordinary", nil)
	_, vm := n.pod(t, "vm", vmPod)
	s, err := n.runtime.StreamContainers(t.Context(), &runtimeapi.StreamContainersRequest{})
	check(t, err)
	var got []string
	for {
		m, err := s.Recv()
		if err != nil {
			check(t, ignoreEOF(err))
			break
		}
		for _, c := range m.GetContainers() {
			got = append(got, c.GetId())
		}
	}
	same(t, "containers", got, []string{ordinary, vm})
	images, err := n.images.StreamImages(t.Context(), &runtimeapi.StreamImagesRequest{})
	check(t, err)
	_, err = images.Recv()
	fails(t, err, codes.Unimplemented) // the primary has no such method
}

func TestEvents(t *testing.T) {
	n := newNode(t)
	_, vm := n.pod(t, "vm", vmPod)
	events, err := n.runtime.GetContainerEvents(t.Context(), &runtimeapi.GetEventsRequest{})
	check(t, err)
	n.primary.events <- &runtimeapi.ContainerEventResponse{ContainerId: "one"}
	n.vm.events <- &runtimeapi.ContainerEventResponse{ContainerId: "two"}
	got := map[string]bool{}
	for range 2 {
		e, err := events.Recv()
		check(t, err)
		got[e.GetContainerId()] = true
	}
	if !got["one"] || !got["two"] {
		t.Errorf("events: %v", got)
	}
	// What ends while the VM runtime is away is told when it is back.
	n.vm.stop()
	n.vm.set(func() { n.vm.containers = nil })
	n.vm.start(t)
	e, err := events.Recv()
	check(t, err)
	if e.GetContainerId() != vm || e.GetContainerEventType() != runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT ||
		e.GetPodSandboxStatus().GetMetadata().GetName() != "vm" {
		t.Errorf("event %v", e)
	}
	n.vm.events <- &runtimeapi.ContainerEventResponse{ContainerId: "three"}
	if e, err = events.Recv(); err != nil || e.GetContainerId() != "three" {
		t.Errorf("event %v, %v", e, err)
	}
	close(n.primary.events)
	_, err = events.Recv()
	check(t, ignoreEOF(err))
}

// The primary's answers are the same bytes with the proxy and without.
func TestThePrimarysBytes(t *testing.T) {
	n := newNode(t)
	for range 300 {
		n.primary.set(func() {
			n.primary.containers = append(n.primary.containers, &runtimeapi.Container{Id: n.primary.newID(), Labels: map[string]string{"a": "b"}})
		})
	}
	through, err := newBackend(n.socket)
	check(t, err)
	defer through.conn.Close()
	for _, method := range []string{"Version", "ListContainers", "ContainerStatus"} {
		var got [2]*frame
		for i, b := range []*backend{through, n.proxy.primary} {
			got[i], err = b.invoke(t.Context(), runtimeService+method, newFrame(nil))
			check(t, err)
		}
		if !bytes.Equal(got[0].bytes(), got[1].bytes()) {
			t.Errorf("%s differs", method)
		}
	}
}

func FuzzField(f *testing.F) {
	f.Add([]byte{0x0a, 0x03, 'a', 'b', 'c'})
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, raw []byte) {
		list := raw
		for _, item := range items(raw) {
			list = appendItem(list, item)
		}
		if field(raw, 1) != nil && len(items(list)) < len(items(raw)) {
			t.Error("items were lost")
		}
		var m runtimeapi.ContainerStatusRequest
		if proto.Unmarshal(raw, &m) == nil && m.GetContainerId() != string(field(raw, 1)) {
			t.Errorf("field 1 is %q, protobuf reads %q", field(raw, 1), m.GetContainerId())
		}
	})
}

// While the VM runtime counts its changes, and there are none, its lists are
// not asked for again.
func TestListsAreBelievedWhileNothingChanges(t *testing.T) {
	n := newNode(t)
	counter, err := changes.Open(changes.Beside(n.vm.socket))
	check(t, err)
	defer counter.Close()
	_, vm := n.pod(t, "vm", vmPod)
	same(t, "at first", n.containers(t), []string{vm})
	n.vm.called()
	same(t, "again", n.containers(t), []string{vm})
	same(t, "the VM runtime was asked", n.vm.called(), nil)

	n.vm.set(func() { n.vm.containers = nil })
	check(t, counter.Count())
	same(t, "after a change", n.containers(t), nil)
	n.vm.called()

	sandbox, vm := n.pod(t, "another", vmPod)
	same(t, "after a change through the proxy that was not counted yet", n.containers(t), []string{vm})
	n.vm.called()
	_, err = n.runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: sandbox}})
	check(t, err)
	n.containers(t)
	same(t, "with a filter, and without", n.vm.called(), []string{"ListContainers"})

	check(t, os.Remove(changes.Beside(n.vm.socket)))
	n.containers(t)
	same(t, "of one that counts no more", n.vm.called(), []string{"ListContainers"})
}

func TestListsAreBelievedForAWhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes")
	counter, err := changes.Open(path)
	check(t, err)
	defer counter.Close()
	k, err := openKnown("", path, discard)
	check(t, err)
	asked := k.asked()
	k.learn(containers, []byte("list"), asked)
	if _, ok := k.current(containers); !ok {
		t.Error("not believed at all")
	}
	k.learn(images, []byte("list"), asked)
	if _, ok := k.current(images); ok {
		t.Error("images are believed, of which changes are not counted")
	}
	asked.at = asked.at.Add(-trust)
	k.learn(containers, []byte("list"), asked)
	if _, ok := k.current(containers); ok {
		t.Error("believed for ever")
	}
}
