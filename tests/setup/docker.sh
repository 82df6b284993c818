#!/bin/bash
# Finds a Docker engine, or installs and starts one. Prints its address, for DOCKER_HOST.
#
#   docker.sh          the address of an engine that answers, after starting one if need be
#   docker.sh stop     ends the engine that this script started, and no other
#
# An engine is looked for at DOCKER_HOST, then at the system's socket, then at our own. Ours keeps
# its data, socket, process id and log under the services folder. It sets up no packet filter and no
# forwarding: its bridge leads nowhere, and whoever needs the network asks for `network: host`.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/docker
SOCKET=$OURS/docker.sock
# Says that docker0 was not there before. Engines of several checkouts share it: the last one takes it away.
MADE_BRIDGE=/run/fairlead-made-docker0

answers() { curl -fsS -m 10 --unix-socket "$1" http://engine/_ping; }
answers_quietly() { answers "$1" >/dev/null 2>&1; }

if [ "${1:-}" = stop ]; then
  end_process "$OURS/pid" dockerd
  if [ -w "$MADE_BRIDGE" ] && ! pidof dockerd >/dev/null; then
    ip link delete docker0 2>/dev/null || true
    rm -f "$MADE_BRIDGE"
  fi
  exit 0
fi

need curl
case ${DOCKER_HOST:-} in
  unix://*) answers_quietly "${DOCKER_HOST#unix://}" && { echo "$DOCKER_HOST"; exit 0; } ;;
  '') ;;
  *) command -v docker >/dev/null && docker info >/dev/null 2>&1 && { echo "$DOCKER_HOST"; exit 0; } ;;
esac
[ -S /var/run/docker.sock ] && answers_quietly /var/run/docker.sock &&
  { echo unix:///var/run/docker.sock; exit 0; }
[ -S "$SOCKET" ] && answers_quietly "$SOCKET" && { echo "unix://$SOCKET"; exit 0; }

[ "$(id -u)" = 0 ] || fail "no Docker engine answers, and only root can start one: start Docker," \
  "add yourself to its group, or run this script as root"

only_one_in "$OURS"
answers_quietly "$SOCKET" && { echo "unix://$SOCKET"; exit 0; }

if ! command -v dockerd >/dev/null; then
  say "installing the Docker engine from Debian"
  apt_lists docker.io
  # The package would start an engine of its own on the system's socket; this script starts one.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io >&2
fi

# A socket's path can have 107 bytes; a deep checkout would pass that.
[ ${#SOCKET} -le 100 ] || fail "the path $SOCKET is too long for a socket;" \
  "set FAIRLEAD_SERVICES to a shorter folder"

[ -e /sys/class/net/docker0 ] || touch "$MADE_BRIDGE"

# start FLAG…: whether an engine with these flags comes up.
start() {
  rm -f "$OURS/pid"
  setsid dockerd --data-root "$OURS/data" --exec-root "$OURS/exec" --pidfile "$OURS/pid" \
    --host "unix://$SOCKET" --iptables=false --ip-forward=false "$@" \
    > "$OURS/log" 2>&1 < /dev/null 9>&- &
  wait_until 60 up_or_gone $!
  answers_quietly "$SOCKET"
}
up_or_gone() { answers "$SOCKET" || ! kill -0 "$1"; }

say "starting a Docker engine in $OURS"
if ! start; then
  say "it cannot have a bridge here; starting it without (builds then need 'network: host' or 'none')"
  start --bridge=none || { tail -5 "$OURS/log" >&2; fail "the engine does not start; see $OURS/log"; }
fi
echo "unix://$SOCKET"
