#!/bin/bash
# Fetches the packages that the image is built from into vendor/, which git ignores: Python wheels,
# checked against the hashes in api/requirements.txt, and Node packages, checked against
# worker/package-lock.json. Run again, it does nothing until one of those files changes.
. "$(dirname "${BASH_SOURCE[0]}")/../../tests/setup/env.sh"
cd "$REPO/examples/shop"

PIP='pip==24.3.1'
ARCH=$(uname -m)

wanted=$({ echo "$PIP $ARCH"; cat api/requirements.txt worker/package.json worker/package-lock.json; } | sha256sum)
[ "$wanted" = "$(cat vendor/.fetched 2>/dev/null)" ] && exit 0

need python3 pip npm
rm -rf vendor
mkdir -p vendor/wheels

say "fetching the Python wheels"
# The image has Debian 12's Python 3.11, whatever runs this script.
wheels=(--quiet --disable-pip-version-check --no-deps --only-binary :all: --dest vendor/wheels
  --implementation cp --python-version 3.11 --abi cp311
  --platform "manylinux_2_17_$ARCH" --platform "manylinux2014_$ARCH")
python3 -m pip download "${wheels[@]}" --require-hashes --requirement api/requirements.txt >&2
python3 -m pip download "${wheels[@]}" "$PIP" >&2

say "fetching the Node packages"
cp worker/package.json worker/package-lock.json vendor/
(cd vendor && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
rm vendor/package.json vendor/package-lock.json

echo "$wanted" > vendor/.fetched
