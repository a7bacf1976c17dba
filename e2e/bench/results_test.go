package bench

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
)

// row is one line of the table.
type row struct {
	what     string
	unit     string
	measured samples
	// baseline has a sample for each of measured, or one for all, or none.
	baseline samples
	beside   string // what the baseline is
	goal     goal
}

// goal are upper bounds, of the ratio and of the measured value; zero is none.
type goal struct {
	ratio, value float64
}

// table collects the rows of all benchmarks.
type table struct {
	mu   sync.Mutex
	rows []row
}

var results table

// report adds a row to the table and to the benchmark's own output.
func (r row) report(b *testing.B) {
	b.Helper()
	results.mu.Lock()
	results.rows = append(results.rows, r)
	results.mu.Unlock()
	b.Logf("%-60s %-20s  %-40s ratio %5s  %s", r.what, r.measured.text(r.unit), r.baseline.text(r.unit)+" "+r.beside, number(r.ratio()), r.verdict())
}

// metric reports the row's ratio, or its value if it has none, also in the form that benchstat reads.
func (r row) metric(b *testing.B, name string) {
	b.Helper()
	if ratio := r.ratio(); !math.IsNaN(ratio) {
		b.ReportMetric(ratio, name+"-ratio")
		return
	}
	b.ReportMetric(r.measured.median(), name+"-"+r.unit)
}

// ratio is the median of the pairs' ratios, NaN without a baseline.
func (r row) ratio() float64 {
	if len(r.baseline) == 1 {
		return r.measured.median() / r.baseline[0]
	}
	return r.measured.over(r.baseline).median()
}

func (r row) verdict() string {
	var all []string
	if r.goal.ratio > 0 {
		all = append(all, "ratio < "+number(r.goal.ratio)+met(r.ratio() < r.goal.ratio))
	}
	if r.goal.value > 0 {
		all = append(all, fmt.Sprintf("< %s %s", number(r.goal.value), r.unit)+met(r.measured.median() < r.goal.value))
	}
	return strings.Join(all, "; ")
}

func met(yes bool) string {
	if yes {
		return ", met"
	}
	return ", **missed**"
}

func (r row) markdown() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", r.what, r.measured.text(r.unit), strings.TrimSpace(r.baseline.text(r.unit)+" "+r.beside),
		number(r.ratio()), r.verdict())
}

func (t *table) markdown() string {
	lines := []string{
		machine(),
		"",
		"| what | measured: median (best) | baseline: median (best) | ratio | goal |",
		"| --- | --- | --- | --- | --- |",
	}
	for _, r := range t.rows {
		lines = append(lines, r.markdown())
	}
	return strings.Join(lines, "\n")
}

// text is the median, with the best of several.
func (s samples) text(unit string) string {
	switch len(s) {
	case 0:
		return ""
	case 1:
		return number(s[0]) + " " + unit
	}
	return fmt.Sprintf("%s %s (%s)", number(s.median()), unit, number(s.best()))
}

// number prints what can be told apart, and nothing for what there is not.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return ""
	case math.Abs(v) < 10:
		return fmt.Sprintf("%.2f", v)
	case math.Abs(v) < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func TestRow(t *testing.T) {
	for _, c := range []struct {
		row  row
		want string
	}{
		{row{what: "a", unit: "ms", measured: samples{90, 120, 60}, baseline: samples{100, 100, 100}, goal: goal{ratio: 1}},
			"| a | 90.0 ms (60.0) | 100 ms (100) | 0.90 | ratio < 1.00, met |"},
		{row{what: "r", unit: "ms", measured: samples{4}, baseline: samples{2}, goal: goal{ratio: 1, value: 15}},
			"| r | 4.00 ms | 2.00 ms | 2.00 | ratio < 1.00, **missed**; < 15.0 ms, met |"},
		{row{what: "b", unit: "KiB", measured: samples{400}, goal: goal{value: 300}}, "| b | 400 KiB |  |  | < 300 KiB, **missed** |"},
		{row{what: "c", unit: "ms", measured: samples{4, 6}, baseline: samples{2}, beside: "libvirt"}, "| c | 5.00 ms (4.00) | 2.00 ms libvirt | 2.50 |  |"},
	} {
		if got := c.row.markdown(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
