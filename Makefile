# Everything a developer does here. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

# One setting for all that is compiled, or everything would be compiled twice; and the daemon runs in any container image.
export CGO_ENABLED := 0

# The version is what Go reads from the commit; where git cannot say, do without.
BUILDFLAGS := -ldflags '-s -w' $(shell git rev-parse -q --verify HEAD >/dev/null 2>&1 || echo -buildvcs=false)
CRITOOLS := $(shell sed -n 's/.*sigs.k8s.io\/cri-tools \(v[^ ]*\).*/\1/p' e2e/go.mod)
POD ?= examples/cirros-vm.yaml
ARGS ?=
FUZZTIME ?= 10s

.PHONY: build man run test e2e unit lint bench manifests deb fuzz-short guests guest-tiny guest-tiny-9p guest-debian guest-node deps crictl critest cluster-programs clean help

build: ## build the programs into bin/
	@mkdir -p bin
	go build $(BUILDFLAGS) -o bin/ ./cmd/...

man: build ## write the manual pages into bin/man: man -l bin/man/qemulet-run.1
	@for program in qemulet qemuletctl criproxy; do [ ! -x bin/$$program ] || bin/$$program man bin/man || exit 1; done

run: deps build guest-tiny ## boot a VM pod and show its console: make run [POD=manifest.yaml] [ARGS=--detach]
	@scripts/run.sh $(POD) $(ARGS)

test: deps ## run all tests, with real virtual machines (installs what is missing, builds the guests)
	@$(MAKE) -j3 build crictl critest guest-tiny guest-tiny-9p guest-debian
	@scripts/test.sh . deploy e2e

e2e: deps ## run the long tests: a real Kubernetes of one node, with kubelet, containerd and kubectl; its first build takes a quarter of an hour
	@$(MAKE) -j3 build cluster-programs guest-tiny guest-tiny-9p guest-debian guest-node
	@export QEMULET_E2E_LONG=1; scripts/test.sh e2e -- -run '^TestLong' .; status=$$?; scripts/test.sh e2e -- ./cluster && exit $$status

unit: deps ## run the tests of the packages only, not the end-to-end ones
	@scripts/test.sh . deploy

manifests: ## print what a cluster has to know: make manifests | kubectl apply -f -
	@cd deploy && go tool kustomize build base

lint: ## check formatting, vet, staticcheck, go.mod, scripts and whitespace
	@scripts/lint.sh

deb: build ## make the Debian package for nodes without a cluster, in bin/
	@deploy/deb/build.sh bin bin

bench: deps ## measure starts, stops, memory, listing, re-adoption, pulls and networks; ARGS=-update writes docs/performance.md
	@$(MAKE) -j2 build guest-tiny
	go test ./netns -run '^$$' -bench . -benchtime 30x
	cd e2e && go test -run '^$$' -bench . -benchtime 1x -timeout 60m -v ./bench $(ARGS)

fuzz-short: ## run every fuzz test for FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

guests: guest-tiny guest-tiny-9p guest-debian guest-node ## build the guest images (kept outside the clone, see e2e/guests/build.sh)

guest-tiny guest-tiny-9p guest-debian guest-node: guest-%: deps
	@e2e/guests/build.sh $* >/dev/null

deps: ## install the Debian packages that this machine lacks
	@scripts/install-deps.sh

crictl: bin/crictl ## build crictl, the CRI client of the end-to-end tests, into bin/

bin/crictl: e2e/go.mod e2e/go.sum
	@mkdir -p bin
	cd e2e && go build -ldflags '-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=$(CRITOOLS)' -o ../$@ sigs.k8s.io/cri-tools/cmd/crictl

critest: bin/critest ## build critest, the tests that CRI's makers hold runtimes to, into bin/

bin/critest: e2e/go.mod e2e/go.sum
	@mkdir -p bin
	cd e2e && go test -c -vet=off -ldflags '-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=$(CRITOOLS)' -o ../$@ sigs.k8s.io/cri-tools/cmd/critest

# What the cluster of the long tests is made of. Kubernetes' modules are nobody else's: it and containerd have go.mod files of their own.
K8S := $(shell sed -n 's/.*k8s.io\/kubernetes v\([^ ]*\).*/\1/p' e2e/cluster/kubernetes/go.mod | head -1)
CONTAINERD := $(shell sed -n 's/.*containerd\/containerd\/v2 v\([^ ]*\).*/\1/p' e2e/cluster/containerd/go.mod)
SAYS_K8S := -X k8s.io/component-base/version.git
K8S_IS := $(SAYS_K8S)Version=v$(K8S) $(SAYS_K8S)Major=1 $(SAYS_K8S)Minor=$(word 2,$(subst ., ,$(K8S))) $(SAYS_K8S)TreeState=clean

cluster-programs: crictl critest bin/kubernetes bin/containerd/containerd bin/pause ## build Kubernetes and containerd for the long tests, into bin/

bin/kubernetes: e2e/cluster/kubernetes/go.mod e2e/cluster/kubernetes/go.sum $(wildcard e2e/cluster/kubernetes/*.go)
	@mkdir -p bin
	cd e2e/cluster/kubernetes && go build -ldflags '-s -w $(K8S_IS)' -o ../../../$@ .

bin/containerd/containerd: e2e/cluster/containerd/go.mod e2e/cluster/containerd/go.sum
	@mkdir -p $(@D)
	cd e2e/cluster/containerd && go build -tags 'no_btrfs no_devmapper no_zfs' -ldflags '-s -w -X github.com/containerd/containerd/v2/version.Version=v$(CONTAINERD)' \
	  -o ../../../$(@D)/ github.com/containerd/containerd/v2/cmd/containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 github.com/containerd/containerd/v2/cmd/ctr

bin/pause: e2e/cluster/pause/main.go
	cd e2e && go build -ldflags '-s -w' -o ../$@ ./cluster/pause

clean: ## remove what was built here (guest images stay in their cache)
	rm -rf bin

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
