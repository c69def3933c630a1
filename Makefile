# What one does with this tree. `make help` lists it.

# Which FRR the nodes of the lab run: 8.4 (Debian 12's own), 10.3 or 10.7 (in a chroot that is made when missing).
FRR ?= 8.4
# For `make demo`: 1 leaves the lab running.
KEEP ?=
# For `make fuzz`: minutes per target.
MINUTES ?= 1
# For `make e2e`: which tests, by a part of their name.
TEST ?=
CARGO ?= cargo

TARGET := $(or $(CARGO_TARGET_DIR),target)
# With two libclangs installed bindgen would take the newest with the other's headers.
export LIBCLANG_PATH ?= $(patsubst %/,%,$(dir $(firstword $(wildcard /usr/lib/llvm-14/lib/libclang.so.1 /usr/lib/llvm-*/lib/libclang.so.1))))

.PHONY: help deps build lint unit loom e2e test demo bench fuzz frr

help:
	@sed -n 's/^\([a-z0-9]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

deps: ## install the Debian packages that are missing
	@tests/scripts/deps.sh

frr: deps
	@case $(FRR) in 8.4) ;; *) tests/scripts/frr-chroot.sh $(FRR) >/dev/null ;; esac

build: deps ## build all programs
	$(CARGO) build --workspace --bins

lint: deps ## rustfmt and clippy; warnings are errors
	@tests/scripts/components.sh
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

unit: build ## unit, property and integration tests
	$(CARGO) test --workspace

loom: deps ## every interleaving of the FIB's lock-free core, by loom
	RUSTFLAGS="--cfg loom" $(CARGO) test -p forwarding --lib --target-dir $(TARGET)/loom loom

e2e: build frr ## end-to-end tests, e.g. make e2e TEST=traceroute FRR=10.3
	$(TARGET)/debug/e2e test --frr $(FRR) -- $(TEST)

test: lint unit loom e2e ## every test, after formatting and lints

demo: build frr ## two nodes, a kernel PE, two spines; KEEP=1 leaves them running
	$(TARGET)/debug/e2e demo --frr $(FRR) $(if $(filter-out 0,$(KEEP)),--keep)

bench: deps ## cycles per packet and figures of the tables, to target/bench
	$(CARGO) build --release -p pe-bench -p dataplane -p frr-bridge -p pe-controller -p e2e --bins
	$(CARGO) build --release -p forwarding --example fib_bench
	mkdir -p $(TARGET)/bench
	$(TARGET)/release/pe-bench run --out $(TARGET)/bench
	$(TARGET)/release/examples/fib_bench --json $(TARGET)/bench/tables.json
	$(TARGET)/release/pe-bench kernel --out $(TARGET)/bench
	$(TARGET)/release/pe-bench changes | $(TARGET)/release/pe-bench merge changes $(TARGET)/bench/tables.json
	$(TARGET)/release/pe-bench learning | tail -n 1 | $(TARGET)/release/pe-bench merge learning $(TARGET)/bench/tables.json
	$(TARGET)/release/table_load | $(TARGET)/release/pe-bench merge process $(TARGET)/bench/tables.json
	$(TARGET)/release/route_load | $(TARGET)/release/pe-bench merge bgp $(TARGET)/bench/tables.json
	$(TARGET)/release/mac_load | $(TARGET)/release/pe-bench merge learning_type2 $(TARGET)/bench/tables.json
	$(TARGET)/release/pe-bench bars $(TARGET)/bench

fuzz: deps ## every fuzz target for MINUTES=n
	@tests/scripts/fuzz.sh $(MINUTES)
