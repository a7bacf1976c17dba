// Package cri speaks CRI (k8s.io/cri-api, runtime.v1) to kubelet, crictl and
// the proxy: RuntimeService and ImageService on a unix socket.
//
// It is a thin skin: it checks requests, asks Runtime and Images, and puts
// their answers into CRI's words. It holds no state. There is a file for each
// RPC; what an RPC does not find here answers Unimplemented. Errors become
// gRPC codes in one place (errors.go).
package cri
