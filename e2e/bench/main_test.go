package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var (
	rounds = flag.Int("rounds", 21, "how often a VM is started by the daemon and by hand")
	fleet  = flag.Int("fleet", 50, "virtual machines that run at the same time")
	update = flag.Bool("update", false, "write the results into docs/performance.md")
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(primarySocket); socket != "" {
		fmt.Fprintln(os.Stderr, servePrimary(socket))
		os.Exit(1)
	}
	flag.Parse()
	status := m.Run()
	if len(results.rows) > 0 {
		text := results.markdown()
		fmt.Printf("\n%s\n", text)
		if *update && status == 0 {
			if err := updatePage(text); err != nil {
				fmt.Fprintln(os.Stderr, err)
				status = 1
			}
		}
	}
	os.Exit(status)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
