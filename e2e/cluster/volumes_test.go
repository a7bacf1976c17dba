package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// debianBoot is what Debian with systemd and cloud-init may take, emulated on a busy machine.
const debianBoot = 6 * time.Minute

const configured = `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: user-data}
data:
  write_files: |
    - {path: /etc/from-user-data, content: "by user-data\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData:
  password: hunter2
  authorized_keys: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKEYOFATEST someone@example
---
apiVersion: v1
kind: Pod
metadata:
  name: configured
  labels: {app: configured, tier: "front"}
  annotations:
    kubernetes.io/target-runtime: virtlet.cloud
    VirtletCloudInitUserDataSource: configmap/user-data
    VirtletSSHKeySource: secret/hidden/authorized_keys
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - name: vm
    image: virtlet.cloud/debian
    imagePullPolicy: IfNotPresent
    resources: {limits: {memory: 512Mi}, requests: {cpu: 10m}}
    readinessProbe: {exec: {command: [test, -e, /var/lib/cloud/instance/boot-finished]}, periodSeconds: 3, timeoutSeconds: 10}
    env:
    - {name: PLAIN, value: "as it is"}
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: hidden, key: password}}}
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    volumeMounts:
    - {name: settings, mountPath: /etc/settings}
    - {name: hidden, mountPath: /etc/hidden}
    - {name: pod, mountPath: /etc/podinfo}
    - {name: disk, mountPath: /srv/disk}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: hidden, secret: {secretName: hidden, defaultMode: 0400}}
  - {name: pod, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: disk, flexVolume: {driver: virtlet/flexvolume_driver, options: {type: qcow2, capacity: 64MB}}}
`

// What kubelet mounts into containers is in a guest with cloud-init, and the guest agent runs kubectl's commands to show it.
func TestConfiguredGuest(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, configured)
	c.WaitReady(t, "app=configured", 1, debianBoot)
	for _, test := range []struct{ command, want string }{
		{"cat /etc/settings/colour", "blue"},
		{"cat /etc/hidden/password", "hunter2"},
		{"stat -Lc %a /etc/hidden/password", "400"},
		{"cat /etc/podinfo/labels", `tier="front"`},
		{"cat /etc/from-user-data", "by user-data"},
		{"cat /etc/cloud/environment", `PLAIN="as it is"`},
		{"cat /etc/cloud/environment", "COLOUR=blue"},
		{"cat /etc/cloud/environment", "PASSWORD=hunter2"},
		{"cat /etc/cloud/environment", "POD_NAME=configured"},
		{"sh -c cat\t/root/.ssh/authorized_keys\t/home/*/.ssh/authorized_keys", "KEYOFATEST"},
		{"findmnt -no FSTYPE /srv/disk", "ext4"},
		{"hostname", "configured"},
	} {
		args := append([]string{"exec", "configured", "--"}, strings.Fields(test.command)...)
		if strings.HasPrefix(test.command, "sh -c ") {
			args = []string{"exec", "configured", "--", "sh", "-c", strings.ReplaceAll(test.command[len("sh -c "):], "\t", " ")}
		}
		if out, err := c.TryKubectl(t, args...); err != nil || !strings.Contains(out, test.want) {
			t.Errorf("%s: %q, %v, want %q", test.command, out, err, test.want)
		}
	}
	if _, err := c.TryKubectl(t, "exec", "configured", "--", "sh", "-c", "exit 3"); err == nil || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("a command that fails: %v", err)
	}
}

// Directories of the node, and of the pod, are shared with the guest.
func TestSharedDirectories(t *testing.T) {
	c := theCluster(t)
	host := c.Path("shared")
	must(t, os.MkdirAll(host, 0o777))
	must(t, os.Chmod(host, 0o777))
	must(t, os.WriteFile(filepath.Join(host, "hello"), []byte("from the node\n"), 0o644))
	c.Apply(t, `apiVersion: v1
kind: Pod
metadata:
  name: shares
  labels: {app: shares}
  annotations:
    kubernetes.io/target-runtime: virtlet.cloud
    VirtletCloudInitUserDataScript: |
      #!/bin/sh
      umount /mnt/*
      @virtlet-mount-script@
      echo "said $(cat /host/hello)"
      echo from the guest >/host/answer
      echo kept >/scratch/file && echo "kept $(cat /scratch/file)"
spec:
  terminationGracePeriodSeconds: 10
  containers:
  - name: vm
    image: virtlet.cloud/tiny-9p
    imagePullPolicy: IfNotPresent
    resources: {limits: {memory: 160Mi}, requests: {cpu: 10m}}
    volumeMounts: [{name: host, mountPath: /host}, {name: scratch, mountPath: /scratch}]
  volumes: [{name: host, hostPath: {path: "`+host+`", type: Directory}}, {name: scratch, emptyDir: {}}]
`)
	log := c.waitLog(t, "shares", "kept kept", bootTime)
	if !strings.Contains(log, "said from the node") {
		t.Errorf("the guest did not read the node's file: %q", lastLines(log, 10))
	}
	if answer, _ := os.ReadFile(filepath.Join(host, "answer")); string(answer) != "from the guest\n" {
		t.Errorf("the guest wrote %q", answer)
	}
}

// waitLog waits until a pod's log has some text, and returns the log.
func (c *Cluster) waitLog(t *testing.T, pod, text string, limit time.Duration) (log string) {
	t.Helper()
	eventually(t, limit, "the log of "+pod+" has "+text, func() (err error) {
		if log, err = c.TryKubectl(t, "logs", pod); err == nil && !strings.Contains(log, text) {
			err = fmt.Errorf("it ends with %q", lastLines(log, 5))
		}
		return err
	})
	return log
}

// loopDevice makes a block device of the node, of 64 MiB, that goes with the test.
func loopDevice(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Truncate(file, 64<<20))
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	must(t, err)
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	return device
}

// localVolume is a PersistentVolume of a block device, and the claim for it.
func localVolume(name, device string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: PersistentVolume
metadata: {name: %[1]s}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  storageClassName: ""
  persistentVolumeReclaimPolicy: Retain
  capacity: {storage: 64Mi}
  claimRef: {namespace: default, name: %[1]s}
  local: {path: %[2]s}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [%[3]s]}]}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %[1]s}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  storageClassName: ""
  volumeName: %[1]s
  resources: {requests: {storage: 64Mi}}
---
`, name, device, NodeName)
}

// A root disk on a PersistentVolume outlives its pod; a further volume is a further disk.
func TestBlockVolumes(t *testing.T) {
	c := theCluster(t)
	root, data := loopDevice(t), loopDevice(t)
	c.Apply(t, localVolume("root", root)+localVolume("data", data))
	pod := vmPod("keeper", `    volumeDevices: [{name: root, devicePath: /}, {name: data, devicePath: /dev/data}]
  volumes: [{name: root, persistentVolumeClaim: {claimName: root}}, {name: data, persistentVolumeClaim: {claimName: data}}]
`)
	c.Apply(t, pod)
	for _, count := range []string{"count=1", "count=2"} {
		c.WaitReady(t, "app=keeper", 1, bootTime)
		log := c.Kubectl(t, "logs", "keeper")
		if !strings.Contains(log, count) {
			t.Errorf("%s was expected: %q", count, log)
		}
		if !strings.Contains(log, fmt.Sprintf("bytes=%d", 64<<20)) {
			t.Errorf("the second disk is not there: %q", log)
		}
		if count == "count=1" {
			c.Kubectl(t, "delete", "pod", "keeper", "--wait")
			must(t, c.feed(t, pod, "apply", "-f", "-"))
		}
	}
}
