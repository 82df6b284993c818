# What people and machines do with this repository. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help demo test interop soak soak-cluster lint bench gen clean-services

help: ## list what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: ## release the shop on real services, then let a push start a pipeline
	@examples/demo.sh

test: ## every test, from nothing; ends what it starts
	@tests/run.sh

interop: ## beside servers of others that take a while to bring: storage that speaks S3
	@tests/interop/run.sh

soak: ## a million seeds of the simulator; FAIRLEAD_SIM_SEEDS and FAIRLEAD_SIM_FROM say otherwise
	FAIRLEAD_SIM_SEEDS=$${FAIRLEAD_SIM_SEEDS:-1000000} cargo test --profile soak \
	  --package fairlead-exec --test sim every_seed -- --nocapture

soak-cluster: ## 2000 runs on three servers and four runners while they are killed, stopped and cut off; FAIRLEAD_CLUSTER_RUNS and FAIRLEAD_CLUSTER_SEED say otherwise
	cargo build --package fairlead
	FAIRLEAD_BIN=$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/fairlead \
	  FAIRLEAD_CLUSTER_RUNS=$${FAIRLEAD_CLUSTER_RUNS:-2000} \
	  FAIRLEAD_CLUSTER_SEED=$${FAIRLEAD_CLUSTER_SEED:-$$(date +%s)} \
	  cargo test --package fairlead-tests --test it cluster -- --nocapture

lint: ## format, clippy, and cargo-deny: licenses, bans, sources, advisories
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	@tests/setup/deny.sh

bench: ## beside the peers: ninja, DBOS, Temporal, Restate, syft, cosign, crane, oras, skopeo
	@tests/bench/run.sh

gen: ## write the generated files again: schemas/
	cargo run --quiet --package fairlead --bin fairlead -- schema --write schemas

clean-services: ## end the engine, registry, NATS and Postgres that a demo or test left running
	@tests/setup/services.sh down
