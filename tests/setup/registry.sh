#!/bin/bash
# Brings the CNCF registry (distribution) and starts one when asked.
#
#   registry.sh                                   prints the path of the program
#   registry.sh up FOLDER PORT [NOTIFY_URL]       starts one on 127.0.0.1:PORT, keeping everything
#                                                 in FOLDER; prints its host:port
#   registry.sh down FOLDER                       ends the one that keeps its things in FOLDER
#
# Only the binary is taken out of Debian's package: the package itself would start a service.
# With NOTIFY_URL every push and delete is sent there as the registry's notification.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/registry
BIN=$OURS/usr/bin/docker-registry

install_it() {
  [ -x "$BIN" ] && return 0
  only_one_in "$OURS"
  [ -x "$BIN" ] && return 0
  say "unpacking the registry from Debian"
  unpack_debs "$OURS" docker-registry
  exec 9>&-
}

case ${1:-} in
  '')
    install_it
    echo "$BIN"
    ;;
  up)
    [ $# -ge 3 ] || fail "say: registry.sh up FOLDER PORT [NOTIFY_URL]"
    install_it
    mkdir -p "$2"
    folder=$(cd "$2" && pwd)
    config=$(
      printf '%s\n' 'version: 0.1' 'log: {level: info}' \
        "storage: {filesystem: {rootdirectory: $folder/data}, delete: {enabled: true}}" \
        "http: {addr: '127.0.0.1:$3'}"
      if [ -n "${4:-}" ]; then
        printf '%s\n' 'notifications:' '  endpoints:' \
          "    - {name: fairlead, url: '$4', timeout: 5s, threshold: 5, backoff: 1s}"
      fi
    )
    if lives "$folder/pid" docker-registry; then
      [ "$config" = "$(cat "$folder/config.yml")" ] && { echo "127.0.0.1:$3"; exit 0; }
      say "its settings changed; starting it again"
      end_process "$folder/pid" docker-registry
    fi
    echo "$config" > "$folder/config.yml"
    setsid "$BIN" serve "$folder/config.yml" > "$folder/log" 2>&1 < /dev/null &
    echo $! > "$folder/pid"
    wait_until 20 curl -fsS -m 2 "http://127.0.0.1:$3/v2/" ||
      { tail -5 "$folder/log" >&2; fail "the registry does not answer; see $folder/log"; }
    lives "$folder/pid" docker-registry || fail "port $3 is taken by another server"
    echo "127.0.0.1:$3"
    ;;
  down)
    [ $# -ge 2 ] || fail "say: registry.sh down FOLDER"
    end_process "$2/pid" docker-registry
    ;;
  *) fail "say: registry.sh [up FOLDER PORT [NOTIFY_URL] | down FOLDER]" ;;
esac
