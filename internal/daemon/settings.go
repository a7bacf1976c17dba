package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/kube"
)

const (
	// firstAnswer is how long a start waits for the API server before it takes
	// the settings of the cluster that were good last.
	firstAnswer = 5 * time.Second
	// lookAgain is when the cluster is asked although it told of no change.
	lookAgain = 5 * time.Minute
	// askAgain is the pause after the API server could not be asked.
	askAgain = 15 * time.Second
)

// LoadSettings reads the node's own settings together with these objects.
type LoadSettings func(...config.Object) (*config.Config, error)

// Settings are a daemon's as they change while it runs: the node's own, and those
// of the cluster's objects. Its methods may be called concurrently.
type Settings struct {
	load  LoadSettings // nil: they never change
	log   *slog.Logger
	level *slog.LevelVar // follows log-level; may be nil

	mu      sync.Mutex
	current *config.Config
	objects []config.Object // the last good ones
	apply   func(*config.Config)
	said    map[string]string // by subject, what was last said
}

// FixedSettings are some that never change.
func FixedSettings(cfg *config.Config) *Settings {
	return &Settings{current: cfg, log: slog.New(slog.DiscardHandler)}
}

// OpenSettings loads the settings, those of the cluster included when it is known
// where that is. It is an error only when the node's own are wrong: what is wrong
// with the cluster's, or keeps them away, is logged. level may be nil.
func OpenSettings(ctx context.Context, load LoadSettings, log *slog.Logger, level *slog.LevelVar) (*Settings, error) {
	local, err := load()
	if err != nil {
		return nil, err
	}
	s := &Settings{load: load, log: log, level: level, current: local, said: map[string]string{}}
	if s.api().Configured() {
		ctx, cancel := context.WithTimeout(ctx, firstAnswer)
		defer cancel()
		_, objects, err := s.ask(ctx)
		s.begin(objects, err)
	}
	s.setLevel()
	return s, nil
}

// begin takes what the cluster answered first, or else what was good last.
func (s *Settings) begin(objects []config.Object, err error) {
	if err == nil {
		if err = s.start(objects); err == nil {
			return
		}
	}
	saved, savedErr := readSaved(s.current)
	if savedErr == nil && saved != nil {
		savedErr = s.start(saved)
	}
	switch {
	case savedErr != nil:
		s.log.Error("settings of the cluster are not taken, nor are those that were good last", "error", err, "saved", savedErr)
	case saved != nil:
		s.log.Warn("settings of the cluster are those that were good last", "error", err)
	default:
		s.log.Warn("settings of the cluster are not taken", "error", err)
	}
}

// start makes objects part of the settings before anything uses them.
func (s *Settings) start(objects []config.Object) error {
	cfg, err := s.load(objects...)
	if err == nil {
		s.current, s.objects = cfg, objects
	}
	return err
}

// Config is the settings in force.
func (s *Settings) Config() *config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// api is access to the cluster. Where that is does not change while the daemon runs.
func (s *Settings) api() *kube.API {
	return &kube.API{Kubeconfig: s.Config().Kubeconfig, Timeout: firstAnswer}
}

// ask asks for the objects of this node, those that count more last.
func (s *Settings) ask(ctx context.Context) (*kube.Settings, []config.Object, error) {
	api, node := s.api(), s.Config().NodeName
	seen, err := api.Settings(ctx)
	if err != nil {
		return nil, nil, err
	}
	all, err := parseMappings(seen.Mappings)
	if err != nil {
		return seen, nil, err
	}
	var labels map[string]string
	if config.NeedsLabels(all, node) {
		if labels, err = api.NodeLabels(ctx, node); err != nil {
			return seen, nil, err
		}
	}
	objects := config.Select(all, node, labels)
	if seen.Data != nil {
		objects = append(objects, config.Object{Name: "ConfigMap " + config.MappingNamespace + "/" + config.ConfigMapName, Data: seen.Data})
	}
	return seen, objects, nil
}

func parseMappings(specs map[string][]byte) (all []config.Mapping, err error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		m, err := config.ParseMapping(name, specs[name])
		errs = append(errs, err)
		all = append(all, m)
	}
	return all, errors.Join(errs...)
}

// follow keeps to the cluster until ctx ends.
func (s *Settings) follow(ctx context.Context) error {
	for ctx.Err() == nil && s.load != nil && s.api().Configured() {
		seen, objects, err := s.ask(ctx)
		if err == nil {
			err = s.takeObjects(objects)
		}
		s.sayOnce("cluster", err, slog.LevelWarn, "settings of the cluster are not taken, the last good ones stay")
		if seen != nil {
			limit := lookAgain
			if seen.Undefined {
				limit = askAgain
			}
			err = s.api().Await(ctx, seen, limit)
			s.sayOnce("watch", err, slog.LevelInfo, "changes of settings in the cluster are not told, they are asked for")
		}
		if err != nil {
			pause(ctx, askAgain)
		}
	}
	<-ctx.Done()
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// sayOnce logs an error when it is another than the last time.
func (s *Settings) sayOnce(subject string, err error, level slog.Level, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if before := s.said[subject]; text != "" && text != before {
		s.log.Log(context.Background(), level, message, "error", err)
	}
	s.said[subject] = text
}

// takeObjects has objects of the cluster count, if they are all good, and keeps
// them for a start without a cluster.
func (s *Settings) takeObjects(objects []config.Object) error {
	next, err := s.load(objects...)
	if err != nil {
		return err
	}
	if err := save(next, objects); err != nil {
		s.log.Warn("the settings of the cluster cannot be kept for a start without it", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects = objects
	s.change(next)
	return nil
}

// Reload reads the node's own settings anew. With an error nothing is changed.
func (s *Settings) Reload() error {
	if s.load == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.load(s.objects...)
	if err != nil {
		return fmt.Errorf("the settings stay as they are: %w", err)
	}
	s.change(next)
	return nil
}

// change goes over to next as far as that is possible now, and says what happens.
func (s *Settings) change(next *config.Config) {
	before := s.current
	s.current = before.Follow(next)
	changed := s.current.Changed(before)
	for _, v := range changed {
		s.log.Info("setting changed", "name", v.Name, "value", v.Value, "origin", v.Origin)
	}
	if pending := s.current.Pending(); !reflect.DeepEqual(pending, before.Pending()) {
		for _, v := range pending {
			s.log.Warn("setting waits for a restart of the daemon", "name", v.Name, "value", v.Value, "origin", v.Origin)
		}
	}
	for _, w := range s.current.Warnings {
		if !slices.Contains(before.Warnings, w) {
			s.log.Warn("settings", "warning", w)
		}
	}
	s.setLevel()
	if s.apply != nil && len(changed) > 0 {
		s.apply(s.current)
	}
}

func (s *Settings) setLevel() {
	if s.level != nil {
		s.level.Set(s.current.Level())
	}
}

// setApply has changes reach the daemon, those too that came while it was opened.
func (s *Settings) setApply(apply func(*config.Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apply = apply; apply != nil {
		apply(s.current)
	}
}
