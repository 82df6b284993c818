#!/bin/bash
# Puts the peers beside Fairlead, in one run, and prints ratios of medians. `make bench` runs it.
#
#   run.sh [WORK…]     only these works: chain fan cold sbom sign verify copy
#
# Brings the peers (ninja, syft, cosign, crane, oras, skopeo) and an empty registry, builds the
# release program, and ends the registry again. No time is asserted: machines differ. works.py says
# what is measured, measure.py how.
#
# From the environment: FAIRLEAD_BIN, a program to measure in the place of the one built here;
# BENCH_PORT (5075), where the registry listens; BENCH_SCALE, a factor on the number of runs.
. "$(dirname "${BASH_SOURCE[0]}")/../setup/env.sh"

SETUP=$REPO/tests/setup
BENCH=$REPO/target/bench
PORT=${BENCH_PORT:-5075}

ENGINE_WAS_UP=no
lives "$SERVICES/docker/pid" dockerd && ENGINE_WAS_UP=yes
finish() {
  local code=$?
  trap - EXIT INT TERM
  "$SETUP/registry.sh" down "$BENCH/registry"
  [ "$ENGINE_WAS_UP" = yes ] || "$SETUP/docker.sh" stop
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for program in cargo curl gzip python3; do
  command -v "$program" >/dev/null || fail "$program is missing; install it"
done

BINARY=${FAIRLEAD_BIN:-}
if [ -z "$BINARY" ]; then
  say "building the release program (the first time takes minutes)"
  (cd "$REPO" && cargo build --release --quiet --package fairlead --bin fairlead)
  BINARY=${CARGO_TARGET_DIR:-$REPO/target}/release/fairlead
fi
[ -x "$BINARY" ] || fail "there is no program at $BINARY"

NINJA=$("$SETUP/bench.sh")/ninja
ORACLES=$("$SETUP/oracles.sh")
SYFT=$("$SETUP/syft.sh")

"$SETUP/registry.sh" down "$BENCH/registry"
rm -rf "$BENCH"
mkdir -p "$BENCH/home"
REGISTRY=$("$SETUP/registry.sh" up "$BENCH/registry" "$PORT")

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

export BINARY NINJA ORACLES SYFT REGISTRY BENCH DEBIAN_LAYER=$DEBIAN.tar.gz SHOP=$REPO/examples/shop
export HOME=$BENCH/home
python3 "$REPO/tests/bench/works.py" "$@"
