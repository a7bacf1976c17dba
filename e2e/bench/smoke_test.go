package bench
import ("testing";"os";"path/filepath";"github.com/qemulet/qemulet/e2e/node")
func BenchmarkSmoke(b *testing.B){
 n:=node.Start(b,node.Options{}); n.PullTiny(b); vm:=n.NewVM(b,"x",nil); vm.Run(b)
 g,_:=filepath.Glob(n.Dir+"/state/pods/*/*/config.json"); d,_:=os.ReadFile(g[0]); b.Logf("%s",d)
 vm.Remove(b); n.NoLeaks(b)
}
