# Tongan: every target installs what it needs by itself, pinned in deploy/tools, deploy/engine and the go.mod files.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := $(CURDIR)/.bin
export PATH := $(BIN):$(PATH)
ENGINE := deploy/engine/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so
MODULES = $$(go list -m -f '{{.Dir}}')

.PHONY: help
help: ## Say what the targets do.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

.PHONY: demo
demo: build ## Replay 23 January to 4 February 2020 and print the bulletin.
	@$(BIN)/tongan demo

.PHONY: test
test: $(ENGINE) $(BIN)/gotestsum $(BIN)/nats ## Run all tests with the race detector, on real servers, and each fuzz target for 10 s.
	@gotestsum --format pkgname --jsonfile $(BIN)/test.json -- -race -timeout 20m work
	@awk '/"Action":"skip"/ && /"Test":/ { n++ } END { printf "skipped tests: %d\n", n; exit n > 0 }' $(BIN)/test.json
	@$(MAKE) fuzz FUZZTIME=10s

# Every target that takes bytes from outside, one after the other; FUZZTIME is for each. One that fails is fuzzed again: if it found something it
# fails at once, by the input that it kept. Go before 1.27 now and then takes the end of the time for a failure (golang/go#75804).
FUZZTIME := 5m
.PHONY: fuzz
fuzz: ## Fuzz every decoder for FUZZTIME each (5m).
	@git grep -E '^func Fuzz' -- '*_test.go' | sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9]+).*|\1 \2|' | while read -r dir target; do \
		fuzz() { echo "$$dir $$target"; go test "./$$dir" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) </dev/null | tail -n 12; }; \
		fuzz || fuzz; done

.PHONY: check
check: gen-check fmt-check lint tidy-check ## Check generated code, format, lint and modules.

.PHONY: up
up: build ## Run everything on this machine until interrupted; data in ./tongan-data.
	@$(BIN)/tongan standalone

.PHONY: build
build: $(ENGINE) ## Build the binary tongan into .bin.
	@go build -o $(BIN)/tongan ./deploy/tongan

.PHONY: engine
engine: $(ENGINE) ## Install the ClickHouse engine's library.

$(ENGINE): deploy/engine/package-lock.json
	@npm ci --prefix deploy/engine --ignore-scripts --no-audit --no-fund
	@touch $@

.PHONY: gen
gen: $(BIN)/buf $(BIN)/protoc-gen-go proto/third_party ## Generate Go from the contract.
	@cd proto && buf generate

# The rules of buf/validate come from the module cache: no schema registry is asked.
proto/third_party: deploy/tools/go.mod
	@rm -rf $@ && mkdir -p $@
	@GOWORK=off go -C deploy/tools mod download github.com/bufbuild/protovalidate
	@cp -r "$$(GOWORK=off go -C deploy/tools list -m -f '{{.Dir}}' github.com/bufbuild/protovalidate)/proto/protovalidate/buf" $@/
	@chmod -R u+w $@

.PHONY: gen-check
gen-check: gen ## Check that generated code is current and the contract lints.
	@test -z "$$(git status --porcelain proto/gen)" || { git status --short proto/gen; echo 'proto/gen is not current: commit what make gen writes'; exit 1; }
	@cd proto && buf lint --path tongan && buf format -d --exit-code --path tongan

.PHONY: breaking
breaking: gen ## Check the contract against the one on main.
	@rm -rf $(BIN)/main && mkdir -p $(BIN)/main && git archive main proto | tar -x -C $(BIN)/main && cp -r proto/third_party $(BIN)/main/proto/
	@cd proto && buf breaking --against $(BIN)/main/proto

.PHONY: fmt
fmt: $(BIN)/golangci-lint ## Format all Go.
	@golangci-lint fmt $(MODULES)
	@cd proto && buf format -w --path tongan

.PHONY: fmt-check
fmt-check: $(BIN)/golangci-lint
	@golangci-lint fmt --diff $(MODULES)

.PHONY: lint
lint: $(BIN)/golangci-lint ## Lint all Go.
	@golangci-lint run $$(go list -m -f '{{.Dir}}/...')

.PHONY: tidy
tidy: ## Tidy all modules.
	@for m in $(MODULES); do GOWORK=off go -C $$m mod tidy; done

.PHONY: tidy-check
tidy-check:
	@for m in $(MODULES); do GOWORK=off go -C $$m mod tidy -diff; GOWORK=off go -C $$m build -o /dev/null ./...; done

.PHONY: kill
kill: build $(BIN)/gotestsum ## Kill the standalone at 30 moments of the scenario; the figures must stand.
	@TONGAN_KILLS=30 go test -count=1 -timeout 30m -v -run TestKilledInTheMiddle ./deploy/tongan

# SEED gives the plan; without one it is another each time. NODES=3 runs three nodes of the bus, LEADERS=1 kills nothing but their leader.
.PHONY: chaos
chaos: $(ENGINE) ## Kill, pause, cut off and poison real processes KILLS times (1000), and check every command.
	@go run ./deploy/chaos/cmd/chaos --kills $(or $(KILLS),1000) --nodes $(or $(NODES),1) $(if $(SEED),--seed $(SEED)) $(if $(LEADERS),--leaders)

.PHONY: crashpoints
crashpoints: $(ENGINE) ## Kill a process at each system call of an append, a batch, an insert and an erasure; needs strace and ptrace.
	@go run ./deploy/chaos/crashpoints

.PHONY: diskfull
diskfull: $(ENGINE) ## Fill the disks of bus, engine and standalone under load; mounts file systems, so as root.
	@go run ./deploy/chaos/diskfull

.PHONY: bench
bench: $(ENGINE) ## Run the benchmarks.
	@go test -run '^$$' -bench . work

$(BIN)/%: deploy/tools/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C deploy/tools install tool
	@touch $(BIN)/buf $(BIN)/gotestsum $(BIN)/nats

$(BIN)/protoc-gen-go: proto/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C proto install tool
	@touch $@

$(BIN)/golangci-lint: deploy/tools/lint/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C deploy/tools/lint install tool
	@touch $@
