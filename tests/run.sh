#!/bin/bash
# Runs every test, from nothing: brings the programs and the engine that tests need, which takes a
# moment when they are there, and ends the engine again if it was started here.
#
#   run.sh [ARGUMENT…]     arguments go to `cargo test`
. "$(dirname "${BASH_SOURCE[0]}")/setup/env.sh"

SETUP=$REPO/tests/setup
ENGINE_WAS_UP=no
lives "$SERVICES/docker/pid" dockerd && ENGINE_WAS_UP=yes
finish() {
  local code=$?
  trap '' HUP INT TERM
  "$SETUP/postgres.sh" down "$SERVICES/store-tests"
  [ "$ENGINE_WAS_UP" = yes ] || "$SETUP/docker.sh" stop
  exit "$code"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

command -v cargo >/dev/null || fail "cargo is missing; install Rust with rustup"
need git curl python3 venv
for script in docker base-images registry nats postgres oracles syft validators hadolint; do
  "$SETUP/$script.sh" >/dev/null
done
"$REPO/examples/shop/fetch.sh"

# Real advisories and real webhooks are no part of this repository; tests read them where they lie
# beside it, and say that they skipped where they do not.
BESIDE=$REPO/../shared/data
[ -d "$BESIDE/osv" ] && export FAIRLEAD_OSV=${FAIRLEAD_OSV:-$BESIDE/osv}
[ -d "$BESIDE/webhooks" ] && export FAIRLEAD_WEBHOOKS=${FAIRLEAD_WEBHOOKS:-$BESIDE/webhooks}

# One server for all tests; each makes a schema of its own in it.
FAIRLEAD_POSTGRES=${FAIRLEAD_POSTGRES:-$("$SETUP/postgres.sh" up "$SERVICES/store-tests" "${POSTGRES_PORT:-55477}")}
export FAIRLEAD_POSTGRES

cd "$REPO"
# The tests start the program as it is built now. They are told where it is: a cargo within a cargo
# would build half of it again, and so would one that knows nothing of the tests.
cargo build --workspace --bins --tests
export FAIRLEAD_BIN=${CARGO_TARGET_DIR:-$REPO/target}/debug/fairlead
cargo test --workspace "$@"
