#!/bin/bash
# Puts the peers beside Fairlead, in one run, and prints ratios of medians. `make bench` runs it.
#
#   run.sh [WORK…]     only these works: chain fan cold noop many flat finished engines sbom sign
#                      verify copy webhooks starts waiting logged idle
#
# Brings the peers (ninja, DBOS, Temporal, Restate, syft, cosign, crane, oras, skopeo), an empty
# registry and an empty Postgres, builds the release programs, and ends what it started. No time is
# asserted: machines differ. works.py says what is measured, measure.py how.
#
# From the environment: FAIRLEAD_BIN and DURABILITY_BIN, programs to measure in the place of those
# built here (the second is the example `durability`); BENCH_PORT (5075) and BENCH_POSTGRES_PORT
# (55478), where the registry and Postgres listen; BENCH_SCALE, a factor on the number of runs.
. "$(dirname "${BASH_SOURCE[0]}")/../setup/env.sh"

SETUP=$REPO/tests/setup
BENCH=$REPO/target/bench
PORT=${BENCH_PORT:-5075}
POSTGRES_PORT=${BENCH_POSTGRES_PORT:-55478}

ENGINE_WAS_UP=no
lives "$SERVICES/docker/pid" dockerd && ENGINE_WAS_UP=yes
finish() {
  local code=$?
  trap - EXIT INT TERM
  "$SETUP/registry.sh" down "$BENCH/registry"
  "$SETUP/postgres.sh" down "$BENCH/postgres"
  [ "$ENGINE_WAS_UP" = yes ] || "$SETUP/docker.sh" stop
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for program in cargo curl gzip python3; do
  command -v "$program" >/dev/null || fail "$program is missing; install it"
done

BUILT=${CARGO_TARGET_DIR:-$REPO/target}/release
BINARY=${FAIRLEAD_BIN:-$BUILT/fairlead}
DURABILITY=${DURABILITY_BIN:-$BUILT/examples/durability}
if [ -z "${FAIRLEAD_BIN:-}" ]; then
  say "building the release program (the first time takes minutes)"
  (cd "$REPO" && cargo build --release --quiet --package fairlead --bin fairlead)
fi
if [ -z "${DURABILITY_BIN:-}" ]; then
  say "building the example that measures runs by themselves"
  (cd "$REPO" && cargo build --release --quiet --package fairlead-exec --example durability)
fi
for program in "$BINARY" "$DURABILITY"; do
  [ -x "$program" ] || fail "there is no program at $program"
done

need wrk
WRK=$(command -v wrk)
NINJA=$("$SETUP/bench.sh")/ninja
ORACLES=$("$SETUP/oracles.sh")
SYFT=$("$SETUP/syft.sh")
PEERS=$("$SETUP/peers.sh")

"$SETUP/registry.sh" down "$BENCH/registry"
"$SETUP/postgres.sh" down "$BENCH/postgres"
rm -rf "$BENCH"
mkdir -p "$BENCH/home"
REGISTRY=$("$SETUP/registry.sh" up "$BENCH/registry" "$PORT")
POSTGRES=$("$SETUP/postgres.sh" up "$BENCH/postgres" "$POSTGRES_PORT")

# The image that is described and the one that is copied: the base image's file system, and with it
# the packages of the shop, as far as they were fetched.
DEBIAN=$SERVICES/base/debian-12
if [ ! -f "$DEBIAN.tar.gz" ]; then
  [ -f "$DEBIAN.tar" ] || "$SETUP/base-images.sh" >/dev/null
  say "packing the Debian image"
  gzip -6 --stdout "$DEBIAN.tar" > "$DEBIAN.tar.gz.part"
  mv "$DEBIAN.tar.gz.part" "$DEBIAN.tar.gz"
fi
"$REPO/examples/shop/fetch.sh"

export BINARY DURABILITY NINJA WRK ORACLES SYFT PEERS REGISTRY POSTGRES BENCH
export DEBIAN_LAYER=$DEBIAN.tar.gz SHOP=$REPO/examples/shop
export HOME=$BENCH/home
python3 "$REPO/tests/bench/works.py" "$@"
