#!/bin/bash
# What `make test` has no time for: the program beside servers of others that take minutes to bring. Each is
# brought by its script in tests/setup, and ended by the test that starts it.
. "$(dirname "${BASH_SOURCE[0]}")/../setup/env.sh"

need git curl python3 venv
FAIRLEAD_MOTO=$("$REPO/tests/setup/moto.sh")
export FAIRLEAD_MOTO

cd "$REPO"
cargo test --package fairlead-store --test s3 "$@"
