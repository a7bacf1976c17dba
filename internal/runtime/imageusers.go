package runtime

import "slices"

// ImageUsers returns which pods' disks stand on which images: by the hex digest
// of an image's data, the pods as "namespace/name", sorted.
func (r *Runtime) ImageUsers() map[string][]string {
	users := map[string][]string{}
	add := func(digest string, p *pod) {
		m := p.config().GetMetadata()
		if name := m.GetNamespace() + "/" + m.GetName(); digest != "" && !slices.Contains(users[digest], name) {
			users[digest] = append(users[digest], name)
		}
	}
	for _, p := range r.allPods() {
		add(p.record().Base, p)
	}
	for _, v := range r.allVMs() {
		add(v.record().ImageDigest, v.pod)
	}
	for _, names := range users {
		slices.Sort(names)
	}
	return users
}

// imagesInUse returns the digests that disks of recorded pods stand on.
func (r *Runtime) imagesInUse() map[string]bool {
	used := map[string]bool{}
	for digest := range r.ImageUsers() {
		used[digest] = true
	}
	return used
}
