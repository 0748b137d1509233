# pgmirror: `make demo` shows it, `make test` proves it. What a target needs is
# installed by scripts/need when it is absent and we may (root, apt).

GO      ?= go
ARGS    ?=
PKG     ?= ./...
# CI and RACE=1 run the tests with the race detector.
RACE    ?= $(if $(filter true,$(CI)),1,)
CACHE   := $(shell scripts/cache)
FUZZTIME ?= 30s

.PHONY: build demo test lint witness fuzz bench clean postgres-14 postgres-16 postgres-17 postgres-18

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/pgmirror ./cmd/pgmirror

# The whole walk on this machine, in a minute: make demo ARGS="--keep --dir /tmp/shop"
demo: build
	@scripts/need postgres
	bin/pgmirror demo $(ARGS)

test:
	@scripts/need postgres $(if $(RACE),cc)
	$(GO) test $(if $(RACE),-race) -timeout 25m $(PKG)

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	 if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted" >&2; exit 1; fi
	$(GO) vet $(PKG)
	$(GO) tool staticcheck $(PKG)

# The demo's Delta tables against PostgreSQL, row for row, by readers that are
# not ours: delta-rs and DuckDB. Here a skip is a failure.
witness: build
	@scripts/need postgres python
	witness/run bin/pgmirror $(CACHE)/witness

# Every fuzz target of PKG for FUZZTIME each.
fuzz:
	@set -e; for p in $$($(GO) list $(PKG)); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; \
	  done; done

bench:
	@scripts/need postgres
	$(GO) test -run '^$$' -bench . -benchmem $(PKG)

# Server binaries of another PostgreSQL major, into the cache; prints where.
postgres-14 postgres-16 postgres-17 postgres-18:
	@scripts/fetch-postgres $(@:postgres-%=%)

clean:
	rm -rf bin
