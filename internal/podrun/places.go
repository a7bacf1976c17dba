package podrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/internal/podrun/volumes"
)

// places are where the daemon looks for what kubelet or an API server would have
// for a pod.
type places struct {
	volumes volumes.Root
	objects kube.Dir
}

// Names of the daemon's settings.
const (
	settingVolumes = "kubelet-root-dir"
	settingObjects = "objects-dir"
)

func (c *Client) places(ctx context.Context) (places, error) {
	settings := c.Settings(ctx)
	p := places{volumes: volumes.Root(settings[settingVolumes]), objects: kube.Dir(settings[settingObjects])}
	if p.volumes == "" || p.objects == "" {
		return places{}, errors.New("the daemon does not tell its settings " + settingVolumes + " and " + settingObjects)
	}
	return p, nil
}

// Tidy removes the directories for what pods bring along, when there are no pods
// any more and nobody can make one. settings are the daemon's.
func Tidy(settings map[string]string) {
	volumes.Root(settings[settingVolumes]).Tidy()
	_ = os.Remove(settings[settingObjects]) // not empty: somebody else's
}

// remove removes what was put there for a pod.
func (p places) remove(uid string) error {
	return errors.Join(p.objects.Remove(uid), p.volumes.Remove(uid))
}

// sweep removes what a command that was killed has left of pods that never were.
func (c *Client) sweep(ctx context.Context, p places) error {
	left, err := p.volumes.Orphans()
	if err != nil || len(left) == 0 {
		return err
	}
	pods, err := c.pods(ctx)
	if err != nil {
		return err
	}
	for _, s := range pods {
		left = slices.DeleteFunc(left, func(uid string) bool { return uid == s.Metadata.Uid })
	}
	var errs []error
	for _, uid := range left {
		errs = append(errs, p.remove(uid))
	}
	return errors.Join(errs...)
}

// prepare does what kubelet does before it asks for a sandbox: the pod's volumes
// are made. What fails is removed with the pod.
func (r *runner) prepare(ctx context.Context) (err error) {
	if r.places, err = r.Client.places(ctx); err != nil {
		return err
	}
	if err := r.sweep(ctx, r.places); err != nil {
		r.say("note: what an earlier pod has left cannot be removed: %v", err)
	}
	pod := r.m.Pod
	if r.claim, err = r.places.volumes.Claim(string(pod.UID)); err != nil {
		return err
	}
	if err := r.places.objects.Put(kube.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}, r.m.kubeObjects()...); err != nil {
		return err
	}
	if r.made, err = r.m.volumes.SetUp(r.claim.Dir); err != nil {
		return fmt.Errorf("making the pod's volumes: %w", err)
	}
	return nil
}

// kubeObjects are those that the daemon may look for.
func (m *Manifest) kubeObjects() (all []metav1.Object) {
	for _, o := range m.ConfigMaps {
		all = append(all, o)
	}
	for _, o := range m.Secrets {
		all = append(all, o)
	}
	return all
}
