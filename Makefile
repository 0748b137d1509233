# pgmirror: `make demo` shows it, `make test` proves it. What a target needs is
# installed by scripts/need when it is absent and we may (root, apt).

GO      ?= go
ARGS    ?=
PKG     ?= ./...
# CI and RACE=1 run the tests with the race detector.
RACE    ?= $(if $(filter true,$(CI)),1,)
CACHE   := $(shell scripts/cache)
FUZZTIME ?= 30s
# Kills that make soak makes of each of mirror and lease.
KILLS   ?= 1000

# What isn't tested with -race is built without cgo, so that build, lint and test
# share one build cache: a clean clone compiles everything once.
export CGO_ENABLED := $(if $(RACE),1,0)

.PHONY: build release demo test lint witness soak fuzz bench clean postgres-14 postgres-16 postgres-17 postgres-18

build:
	CGO_ENABLED=0 $(GO) build -o bin/pgmirror ./cmd/pgmirror

# The same binary wherever it is built: no paths of this machine, no symbols.
release:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/pgmirror ./cmd/pgmirror

# The whole walk on this machine, in a minute: make demo ARGS="--keep --dir /tmp/shop"
demo: build
	@scripts/need postgres
	bin/pgmirror demo $(ARGS)

test:
	@scripts/need postgres $(if $(RACE),cc)
	$(if $(RACE),GORACE=atexit_sleep_ms=20) $(GO) test $(if $(RACE),-race) -timeout 25m $(PKG)

lint: export CGO_ENABLED = 0
lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	 if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted" >&2; exit 1; fi
	$(GO) vet $(PKG)
	$(GO) tool staticcheck $(PKG)

# What is not ours against what is: readers of the demo's Delta tables and of
# random histories (delta-rs, DuckDB, polars, chDB, Spark), clients of Fabric and
# OneLake. Here a skip is a failure.
witness: build
	@scripts/need postgres python java
	GO="$(GO)" witness/run bin/pgmirror $(CACHE)/witness

# make test's crash tests for hours instead of seconds: KILLS of the mirror, in
# rounds of 50, of processes that hold a lease, and of real apply and rotate
# processes that open every door; then every cut of setup and of the replicator.
soak:
	@scripts/need postgres
	$(GO) test -timeout 12h -count 1 -run '^TestSoak$$' -v ./internal/mirror -soak-kills $(KILLS)
	LEASE_KILLS=$(KILLS) $(GO) test -timeout 12h -count 1 -run '^TestKilled$$' -v ./internal/lease
	SOAK_KILLS=$(KILLS) $(GO) test -parallel 6 -timeout 12h -count 1 -run '^TestKilledProcesses$$' -v ./cmd/pgmirror
	$(GO) test -timeout 1h -count 1 -run 'Cut|Fault' ./internal/setup ./internal/replicator

# Every fuzz target below internal for FUZZTIME each, one after the other. Go's fuzzer
# may take the end of that time for a failure, so a target has two tries; an input that
# fails is kept, and fails at once.
fuzz:
	@set -e; for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' internal | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -rh '^func Fuzz' $$dir/*_test.go | sed 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/' | sort -u); do \
	    echo "$$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) ./$$dir || $(GO) test -run "^$$f\$$" -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) ./$$dir; \
	  done; done

# The mirror beside PostgreSQL's own clients, in the same run; then the replicator
# on small and large tables.
bench:
	@scripts/need postgres
	BENCH_BIG=$${BENCH_BIG:-20000000} $(GO) test -run '^$$' -bench . -timeout 2h ./internal/bench ./internal/replicator

# Server binaries of another PostgreSQL major, into the cache; prints where.
postgres-14 postgres-16 postgres-17 postgres-18:
	@scripts/fetch-postgres $(@:postgres-%=%)

clean:
	rm -rf bin
