#!/bin/bash
# Brings the official validators of SPDX and CycloneDX, in one Python environment. Prints its bin
# folder: `pyspdxtools -i FILE`, and `python` with cyclonedx.validation.json.JsonStrictValidator.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/validators
[ -e "$OURS/.ready" ] && { echo "$OURS/venv/bin"; exit 0; }
only_one_in "$OURS"
if [ ! -e "$OURS/.ready" ]; then
  say "installing the validators of SPDX and CycloneDX"
  python_env "$OURS/venv" \
    'spdx-tools==0.8.5' 'cyclonedx-python-lib[json-validation]==11.12.0'
  "$OURS/venv/bin/python" -c 'from cyclonedx.validation.json import JsonStrictValidator'
  touch "$OURS/.ready"
fi
echo "$OURS/venv/bin"
