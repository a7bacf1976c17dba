package objects

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Bind finds the volume of each of the claims, in their order, as the volume
// controller of a cluster would: the one that the claim or the volume names, or
// else the smallest that fits. A volume serves one claim. The result is by the
// claims' names; all that is wrong is reported together.
func (s *Set) Bind(namespace string, claims []string) (map[string]*corev1.PersistentVolume, error) {
	b := binding{set: s, namespace: namespace, taken: map[string]string{}, bound: map[string]*corev1.PersistentVolume{}}
	var errs []error
	for _, pass := range []bool{true, false} { // whoever names a volume comes first
		for _, name := range claims {
			if claim := s.Claims[name]; (claim != nil && b.reserved(claim) != nil) == pass {
				errs = append(errs, b.bind(name))
			}
		}
	}
	return b.bound, errors.Join(errs...)
}

type binding struct {
	set       *Set
	namespace string
	taken     map[string]string // volume -> claim
	bound     map[string]*corev1.PersistentVolume
}

func (b *binding) bind(name string) error {
	if b.bound[name] != nil {
		return nil
	}
	claim := b.set.Claims[name]
	if claim == nil {
		return fmt.Errorf("PersistentVolumeClaim %q is not in the file; add it as a document of its own", name)
	}
	pv, err := b.find(claim)
	if err != nil {
		return fmt.Errorf("PersistentVolumeClaim %q: %w", name, err)
	}
	b.bound[name], b.taken[pv.Name] = pv, name
	return nil
}

// reserved is the volume that the claim names, or that names the claim.
func (b *binding) reserved(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	if pv := b.set.Volumes[claim.Spec.VolumeName]; pv != nil {
		return pv
	}
	for _, name := range slices.Sorted(maps.Keys(b.set.Volumes)) {
		if ref := b.set.Volumes[name].Spec.ClaimRef; ref != nil && b.isClaim(ref, claim) {
			return b.set.Volumes[name]
		}
	}
	return nil
}

func (b *binding) isClaim(ref *corev1.ObjectReference, claim *corev1.PersistentVolumeClaim) bool {
	return ref.Name == claim.Name && cmp.Or(ref.Namespace, b.namespace) == b.namespace
}

func (b *binding) find(claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, error) {
	if name := claim.Spec.VolumeName; name != "" && b.set.Volumes[name] == nil {
		return nil, fmt.Errorf("spec.volumeName %q: this PersistentVolume is not in the file", name)
	}
	if pv := b.reserved(claim); pv != nil {
		if why := b.unfit(pv, claim); why != "" {
			return nil, fmt.Errorf("PersistentVolume %q is meant for it and does not fit: %s", pv.Name, why)
		}
		return pv, nil
	}
	return b.smallest(claim)
}

func (b *binding) smallest(claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, error) {
	var best *corev1.PersistentVolume
	var why []string
	for _, name := range slices.Sorted(maps.Keys(b.set.Volumes)) {
		pv := b.set.Volumes[name]
		if reason := b.unfit(pv, claim); reason != "" {
			why = append(why, fmt.Sprintf("%s: %s", name, reason))
		} else if best == nil || capacity(pv) < capacity(best) {
			best = pv
		}
	}
	switch {
	case best != nil:
		return best, nil
	case len(why) == 0:
		return nil, errors.New("there is no PersistentVolume in the file, and nobody makes one on one machine; add one as a document of its own")
	}
	return nil, fmt.Errorf("no PersistentVolume of the file fits: %s", strings.Join(why, "; "))
}

func capacity(pv *corev1.PersistentVolume) int64 { return pv.Spec.Capacity.Storage().Value() }

// unfit says why a volume cannot serve a claim, "" when it can.
func (b *binding) unfit(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) string {
	want, have := &claim.Spec, &pv.Spec
	request := want.Resources.Requests[corev1.ResourceStorage]
	class := b.class(claim)
	switch {
	case b.taken[pv.Name] != "" && b.taken[pv.Name] != claim.Name:
		return fmt.Sprintf("claim %q has it", b.taken[pv.Name])
	case have.ClaimRef != nil && !b.isClaim(have.ClaimRef, claim):
		return fmt.Sprintf("its claimRef is %q", have.ClaimRef.Name)
	case VolumeMode(want.VolumeMode) != VolumeMode(have.VolumeMode):
		return fmt.Sprintf("its volumeMode is %s, not %s", VolumeMode(have.VolumeMode), VolumeMode(want.VolumeMode))
	case have.StorageClassName != class:
		return fmt.Sprintf("its storageClassName is %q, not %q", have.StorageClassName, class)
	case request.Cmp(*have.Capacity.Storage()) > 0:
		return fmt.Sprintf("it has %s, not %s", have.Capacity.Storage(), &request)
	}
	for _, mode := range want.AccessModes {
		if !slices.Contains(have.AccessModes, mode) {
			return fmt.Sprintf("its accessModes lack %s", mode)
		}
	}
	return unselected(pv, want.Selector)
}

func unselected(pv *corev1.PersistentVolume, by *metav1.LabelSelector) string {
	if by == nil {
		return ""
	}
	selector, err := metav1.LabelSelectorAsSelector(by)
	if err != nil {
		return fmt.Sprintf("spec.selector: %v", err)
	}
	if !selector.Matches(labels.Set(pv.Labels)) {
		return "its labels are not those of spec.selector"
	}
	return ""
}

// class is the claim's storage class: the default one of the file, if there is
// one, for a claim that says nothing about it.
func (b *binding) class(claim *corev1.PersistentVolumeClaim) string {
	if name := claim.Spec.StorageClassName; name != nil {
		return *name
	}
	if name, ok := claim.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return name
	}
	for _, name := range slices.Sorted(maps.Keys(b.set.Classes)) {
		if b.set.Classes[name].Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			return name
		}
	}
	return ""
}

// VolumeMode is a volumeMode with its default.
func VolumeMode(m *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
	if m == nil {
		return corev1.PersistentVolumeFilesystem
	}
	return *m
}
