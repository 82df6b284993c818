#!/bin/bash
# Brings moto, a server that speaks S3, in a Python environment of its own. Prints its Python.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/moto
[ -e "$OURS/.ready" ] && { echo "$OURS/venv/bin/python"; exit 0; }
only_one_in "$OURS"
if [ ! -e "$OURS/.ready" ]; then
  say "installing moto"
  python_env "$OURS/venv" 'moto[s3,server]==5.2.5'
  "$OURS/venv/bin/python" -c 'from moto.server import main'
  touch "$OURS/.ready"
fi
echo "$OURS/venv/bin/python"
