# What every script in this folder shares: where state lives, how to speak, how to take turns.
# Sourced, never run. State is under FAIRLEAD_SERVICES, or target/services of this checkout.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(cd "$HERE/../.." && pwd)
SERVICES=${FAIRLEAD_SERVICES:-$REPO/target/services}
mkdir -p "$SERVICES"
SERVICES=$(cd "$SERVICES" && pwd)

# Facts go to stdout; everything said to a person goes to stderr.
say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
fail() { say "$@"; exit 1; }

# Lets one process at a time work in folder $1; the lock goes with the process.
only_one_in() {
  mkdir -p "$1"
  exec 9>"$1/.lock"
  flock 9
}

# Whether the process whose id is in file $1 lives. A pid file can outlive a reboot, so the
# process must also carry the name $2.
lives() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 1
  [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && grep -qaF "$2" "/proc/$pid/cmdline" 2>/dev/null
}

# Waits up to $1 seconds until the command behind it succeeds.
wait_until() {
  local left=$(($1 * 10))
  shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
    sleep 0.1
  done
}

# Ends the process whose id is in file $1 and whose name is $2: asks first, insists after 10 s.
end_process() {
  local pid
  lives "$1" "$2" || { rm -f "$1"; return 0; }
  pid=$(cat "$1")
  kill -TERM "$pid" 2>/dev/null || true
  wait_until 10 lives_not "$1" "$2" || kill -KILL "$pid" 2>/dev/null || true
  rm -f "$1"
}
lives_not() { ! lives "$1" "$2"; }

# Makes sure that the package lists of apt are there; only root can fetch them.
apt_lists() {
  command -v apt-get >/dev/null || fail "this machine has no apt-get; install the program yourself"
  local probe
  probe=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
  [ -n "$probe" ] && [ "$probe" != "(none)" ] && return 0
  [ "$(id -u)" = 0 ] || fail "apt knows no package '$1'; run 'apt-get update' as root once"
  say "fetching apt's package lists"
  apt-get update -qq >&2
}

# Unpacks the Debian packages $2… into folder $1 without installing them: no root, no service
# started, no file outside the folder. apt checks what it downloads against its signed lists.
unpack_debs() {
  local into=$1 work
  shift
  apt_lists "$1"
  mkdir -p "$into"
  work=$(mktemp -d "$SERVICES/.debs.XXXXXX")
  chmod 755 "$work"
  (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$@" >&2) || { rm -rf "$work"; fail "cannot download: $*"; }
  local deb
  for deb in "$work"/*.deb; do dpkg -x "$deb" "$into"; done
  rm -rf "$work"
}

# Sees to it that the programs $@ are here. As root on a Debian machine it installs what is missing;
# elsewhere it says what to install. `pip` and `venv` are those of python3.
need() {
  local program missing=()
  for program in "$@"; do
    has "$program" || missing+=("$(package_of "$program")")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "not on this machine: ${missing[*]}; install them with your package manager"
  fi
  apt_lists "${missing[0]}"
  say "installing ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}
has() {
  case $1 in
    pip) python3 -m pip --version >/dev/null 2>&1 ;;
    venv) python3 -c 'import ensurepip, venv' >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
  esac
}
package_of() {
  case $1 in
    pip) echo python3-pip ;;
    venv) echo python3-venv ;;
    xz) echo xz-utils ;;
    ss | ip) echo iproute2 ;;
    *) echo "$1" ;;
  esac
}

# The Debian mirror that this machine's apt already uses.
debian_mirror() {
  local mirror
  mirror=$( { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } | grep -vE '^ *#' |
    grep -oE 'https?://[^ ]+/debian/?( |$)' | sed -n '1s,/* *$,,p')
  [ -n "$mirror" ] || fail "there is no Debian mirror in this machine's apt sources"
  echo "$mirror"
}

# Makes the Python environment $1 with packages $2… at fixed versions, from the index that pip is
# set up for.
python_env() {
  local into=$1
  shift
  need python3 venv
  [ -x "$into/bin/pip" ] || python3 -m venv "$into" >&2
  "$into/bin/pip" install --quiet --disable-pip-version-check "$@" >&2
}
