package bench

import (
	"math"
	"slices"
	"testing"
	"time"
)

// samples are measurements of one thing, in the order in which they were taken.
type samples []float64

func (s *samples) add(v float64) { *s = append(*s, v) }

// addTime adds a duration in milliseconds.
func (s *samples) addTime(d time.Duration) { s.add(float64(d) / float64(time.Millisecond)) }

// median is NaN of nothing.
func (s samples) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// best is the smallest.
func (s samples) best() float64 { return slices.Min(s) }

// combine makes one sample of each pair of neighbours.
func (s samples) combine(other samples, f func(a, b float64) float64) samples {
	pairs := make(samples, min(len(s), len(other)))
	for i := range pairs {
		pairs[i] = f(s[i], other[i])
	}
	return pairs
}

func (s samples) over(baseline samples) samples {
	return s.combine(baseline, func(a, b float64) float64 { return a / b })
}

func (s samples) plus(other samples) samples {
	return s.combine(other, func(a, b float64) float64 { return a + b })
}

func TestSamples(t *testing.T) {
	var s samples
	for _, v := range []float64{8, 2, 6, 4} {
		s.add(v)
	}
	if got := s.median(); got != 5 {
		t.Errorf("median of %v: %v", s, got)
	}
	if got := s[:3].median(); got != 6 {
		t.Errorf("median of %v: %v", s[:3], got)
	}
	if !slices.Equal(s, samples{8, 2, 6, 4}) {
		t.Errorf("taking the median has sorted the samples: %v", s)
	}
	if got := s.over(samples{4, 2, 3}); !slices.Equal(got, samples{2, 1, 2}) {
		t.Errorf("ratios: %v", got)
	}
	if got := s.best(); got != 2 {
		t.Errorf("best: %v", got)
	}
}
