package netns

import (
	"context"
	"sync"
)

// keyedMutex is a mutex per key that costs nothing for keys not in use. The zero value is ready.
type keyedMutex struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	token chan struct{} // holds one token when free
	users int
}

// lock waits for the key, or for ctx. The returned function releases it.
func (k *keyedMutex) lock(ctx context.Context, key string) (func(), error) {
	l := k.join(key)
	select {
	case <-l.token:
		return func() {
			l.token <- struct{}{}
			k.leave(key, l)
		}, nil
	case <-ctx.Done():
		k.leave(key, l)
		return nil, context.Cause(ctx)
	}
}

func (k *keyedMutex) join(key string) *keyLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.held[key]
	if l == nil {
		l = &keyLock{token: make(chan struct{}, 1)}
		l.token <- struct{}{}
		if k.held == nil {
			k.held = make(map[string]*keyLock)
		}
		k.held[key] = l
	}
	l.users++
	return l
}

func (k *keyedMutex) leave(key string, l *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.held, key)
	}
}
