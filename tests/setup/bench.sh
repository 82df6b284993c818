#!/bin/bash
# Brings ninja and hyperfine, for the benchmarks. Prints the folder that holds them.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/bench
[ -x "$OURS/usr/bin/hyperfine" ] && [ -x "$OURS/usr/bin/ninja" ] && { echo "$OURS/usr/bin"; exit 0; }
only_one_in "$OURS"
[ -x "$OURS/usr/bin/hyperfine" ] || {
  say "unpacking ninja and hyperfine from Debian"
  unpack_debs "$OURS" ninja-build hyperfine
}
"$OURS/usr/bin/ninja" --version >/dev/null && "$OURS/usr/bin/hyperfine" --version >/dev/null ||
  fail "ninja or hyperfine does not start"
echo "$OURS/usr/bin"
