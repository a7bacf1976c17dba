package podrun

import (
	"strings"
	"testing"
)

func TestEnvironment(t *testing.T) {
	m := read(t, vm+`    env:
    - {name: A, value: "1"}
    - {name: B, value: "$(A)-$(NONE)-$$(A)-$x"}
    - name: C
      valueFrom: {configMapKeyRef: {name: c, key: k}}
    - name: S
      valueFrom: {secretKeyRef: {name: s, key: pw}}
    - name: T
      valueFrom: {secretKeyRef: {name: s, key: text}}
    - name: IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
    - name: L
      valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}
    - name: MAYBE
      valueFrom: {configMapKeyRef: {name: none, key: k, optional: true}}
    envFrom:
    - {prefix: P_, configMapRef: {name: c}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {k: "v a l", z: "2"}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {pw: c2VjcmV0}
stringData: {text: plain}
`)
	env, err := m.environment("10.1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, kv := range env {
		got = append(got, kv.Key+"="+string(kv.Value))
	}
	want := "P_k=v a l|P_z=2|A=1|B=1-$(NONE)-$(A)-$x|C=v a l|S=secret|T=plain|IP=10.1.2.3|L=front"
	if strings.Join(got, "|") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
	}
}

func TestEnvironmentErrorsAreReportedTogether(t *testing.T) {
	_, err := ReadManifest(strings.NewReader(vm + `    env:
    - name: A
      valueFrom: {configMapKeyRef: {name: none, key: k}}
    - name: B
      valueFrom: {secretKeyRef: {name: s, key: none}}
    - name: C
      valueFrom: {fieldRef: {fieldPath: spec.nothing}}
    - name: D
      valueFrom: {resourceFieldRef: {resource: limits.pens}}
    envFrom:
    - secretRef: {name: gone}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
`))
	for _, want := range []string{`A: ConfigMap "none" is not in the file`, `B: Secret "s" has no key "none"`, `C: fieldRef.fieldPath "spec.nothing"`, "D: resourceFieldRef.resource", `envFrom[0]: Secret "gone"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}
