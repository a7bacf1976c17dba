package metrics

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"sigs.k8s.io/yaml"

	"github.com/qemulet/qemulet/internal/runtime"
)

var update = flag.Bool("update", false, "write the table of docs/monitoring.md")

const (
	page      = "../../docs/monitoring.md"
	dashboard = "../../deploy/monitoring/dashboard.json"
	rules     = "../../deploy/monitoring/rules.yaml"
)

// families are all metrics of ours.
func families(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	all, err := full().registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), namespace+"_") })
}

func metricsTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| Metric | Kind | Labels | Meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range families(t) {
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	return b.String()
}

// The page's table is that of the code: go test ./internal/metrics -update
func TestPageHasAllMetrics(t *testing.T) {
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- begin metrics, generated -->\n", "<!-- end metrics -->\n"
	i, j := bytes.Index(old, []byte(begin)), bytes.Index(old, []byte(end))
	if i < 0 || j < i {
		t.Fatalf("%s has no marks", page)
	}
	want := string(old[:i]) + begin + metricsTable(t) + string(old[j:])
	if want == string(old) {
		return
	}
	if !*update {
		t.Fatalf("%s is not up to date: go test ./internal/metrics -update", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The page explains each phase and each Event, and none that there is not.
func TestPageHasAllPhasesAndEvents(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z_]+)` \\| (\\w*)").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[2]
	}
	for _, p := range append(runtime.Phases(), PhasePull) {
		if _, there := rows[string(p)]; !there {
			t.Errorf("the phase %s is missing", p)
		}
	}
	for reason, warning := range runtime.Notices() {
		if want := map[bool]string{true: "Warning", false: "Normal"}[warning]; rows[reason] != want {
			t.Errorf("the Event %s is missing or of another type than %s", reason, want)
		}
	}
	for row, kind := range rows {
		if _, known := runtime.Notices()[row]; (kind == "Warning" || kind == "Normal") && !known {
			t.Errorf("there is no Event %s", row)
		}
	}
}

var nameInQuery = regexp.MustCompile(`\b(qemulet|go|process)_[a-z_]+\b`)

// wantKnown fails for names of metrics that there are not.
func wantKnown(t *testing.T, where, query string) {
	t.Helper()
	all, err := full().registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, f := range all {
		known[f.GetName()] = true
		if f.GetType() == dto.MetricType_HISTOGRAM {
			known[f.GetName()+"_bucket"], known[f.GetName()+"_sum"], known[f.GetName()+"_count"] = true, true, true
		}
	}
	names := nameInQuery.FindAllString(query, -1)
	if len(names) == 0 {
		t.Errorf("%s: no metric in %s", where, query)
	}
	for _, name := range names {
		if !known[name] {
			t.Errorf("%s: there is no metric %s", where, name)
		}
	}
}

func TestDashboardShowsWhatThereIs(t *testing.T) {
	raw, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title  string
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d, %q: %+v", p.ID, p.Title, p.GridPos)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			wantKnown(t, p.Title, target.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if v.Definition != "" {
			wantKnown(t, v.Name, v.Definition)
		}
	}
	if len(d.Panels) < 10 {
		t.Errorf("%d panels", len(d.Panels))
	}
}

func TestAlertsAskWhatThereIs(t *testing.T) {
	raw, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(raw, &r); err != nil || len(r.Groups) == 0 {
		t.Fatalf("%v, %+v", err, r)
	}
	for _, rule := range r.Groups[0].Rules {
		wantKnown(t, rule.Alert, rule.Expr)
		for _, reasons := range regexp.MustCompile(`reason=~"([^"]*)"`).FindAllStringSubmatch(rule.Expr, -1) {
			for reason := range strings.SplitSeq(reasons[1], "|") {
				if !slices.Contains(runtime.Reasons(), reason) {
					t.Errorf("%s: no VM ends by %s", rule.Alert, reason)
				}
			}
		}
	}
}
