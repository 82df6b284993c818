#!/bin/bash
# Holds the dependencies against deny.toml: licenses, bans, sources, advisories. `make lint` runs it.
#
# cargo-deny is taken from PATH or from the services folder, into which it is built if it is missing.
# Advisories come from RustSec's git repository. Where that cannot be reached they come from the OSV
# dump of crates.io in the folder that FAIRLEAD_OSV names (as FOLDER/crates.io/all.zip); where there
# is none either, this says that advisories were not checked, and checks the rest.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/deny
VERSION=0.20.2
REMOTE=https://github.com/RustSec/advisory-db

need git python3
command -v cargo >/dev/null || fail "cargo is missing; install Rust with rustup"
only_one_in "$OURS"
PATH=$PATH:$OURS/bin
if ! command -v cargo-deny >/dev/null; then
  say "building cargo-deny $VERSION (takes minutes, once)"
  env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$OURS" "cargo-deny@$VERSION" >&2
fi

cd "$REPO"
code=0
cargo-deny --locked check bans licenses sources || code=1

if GIT_TERMINAL_PROMPT=0 timeout 30 git ls-remote --quiet "$REMOTE" main >/dev/null 2>&1; then
  cargo-deny --locked check advisories || code=1
elif [ -f "${FAIRLEAD_OSV:-}/crates.io/all.zip" ]; then
  say "$REMOTE cannot be reached; advisories come from $FAIRLEAD_OSV instead"
  rm -rf "$OURS/advisories" "$OURS/databases"
  mkdir -p "$OURS/advisories"
  say "$(python3 "$HERE/advisories.py" "$FAIRLEAD_OSV/crates.io/all.zip" "$OURS/advisories")"
  # The same rules; git is told to look there for the database, and its copy stays out of the one
  # that belongs to the real repository.
  sed "s,^\[advisories\]\$,&\ndb-path = \"$OURS/databases\"," deny.toml > "$OURS/deny.toml"
  GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$OURS/advisories.insteadOf" \
    GIT_CONFIG_VALUE_0=$REMOTE \
    cargo-deny --locked --config "$OURS/deny.toml" check advisories || code=1
else
  say "NOT CHECKED: advisories. $REMOTE cannot be reached, and FAIRLEAD_OSV names no folder with" \
    "an OSV dump in crates.io/all.zip"
fi
exit "$code"
