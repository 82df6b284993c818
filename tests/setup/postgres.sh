#!/bin/bash
# Brings Postgres and starts a server of its own when asked.
#
#   postgres.sh                    prints the folder of the programs
#   postgres.sh up FOLDER PORT [ADDRESS]
#                                  starts one on 127.0.0.1:PORT, or the next port that is free, with
#                                  its data in FOLDER, where they stay; prints its address. One that
#                                  is there already is left on the port that it has. With ADDRESS it
#                                  listens there, too, for all in the network of 256 around it
#   postgres.sh schema URL NAME    makes an empty schema, and prints the address of it
#   postgres.sh down FOLDER        ends the one that keeps its things in FOLDER
#
# A Postgres that is installed is used. Otherwise Debian's packages are only unpacked, because
# installing them would start a service. A cluster that an installed package made for the system is
# left alone: it is neither started nor stopped here. The server wants every commit on the disk, as
# it does by default: what is measured on it is what a production server does. Whoever reaches the
# port may do everything, so it listens on loopback alone.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/postgres

# The folder of the newest server, ours or the system's.
programs() {
  { find "$OURS/usr/lib/postgresql" /usr/lib/postgresql -maxdepth 3 -name initdb -path '*/bin/*' \
    2>/dev/null || true; } | sort -V | tail -1 | xargs -r dirname
}

# What of the packages that $1 needs is a library, and not on this machine. The compiler that speeds
# up long queries is left out: it is larger than all the rest.
libraries() {
  apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
    --no-replaces --no-enhances "$1" | grep -E '^lib[a-z0-9.+-]+$' | grep -v '^libllvm' | sort -u |
    while read -r package; do
      dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        apt-cache policy "$package" | grep -q 'Candidate: [0-9]' && echo "$package" || true
    done
}

install_it() {
  [ -n "$(programs)" ] && return 0
  only_one_in "$OURS"
  [ -n "$(programs)" ] && return 0
  apt_lists postgresql
  local server
  server=$(apt-cache depends postgresql | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p' | head -1)
  [ -n "$server" ] || fail "apt knows no Postgres server"
  say "unpacking $server from Debian"
  # shellcheck disable=SC2046
  unpack_debs "$OURS" "$server" "postgresql-client-${server##*-}" $(libraries "$server")
  [ -n "$(programs)" ] || fail "Debian's packages hold no initdb"
  exec 9>&-
}

# Runs a program of the server, which refuses to be root: in a user namespace root is seen as nobody,
# and still reaches its own folders.
as_nobody() {
  local path
  path=$({ find "$OURS/usr/lib" -maxdepth 1 -name '*-linux-gnu*' 2>/dev/null || true; } | head -1)
  [ -z "$path" ] || export LD_LIBRARY_PATH="$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  if [ "$(id -u)" != 0 ]; then
    exec "$@"
  elif unshare --user --map-user=65534 --map-group=65534 true 2>/dev/null; then
    exec unshare --user --map-user=65534 --map-group=65534 "$@"
  else
    chown -R 65534:65534 "$folder"
    exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
  fi
}

# Whether the server of folder $1 lives; its process id is then in the file `pid` there.
pid_of() {
  [ -s "$1/data/postmaster.pid" ] && head -1 "$1/data/postmaster.pid" > "$1/pid" &&
    lives "$1/pid" postgres
}

ready() { grep -q 'ready to accept connections' "$1/log"; }
ready_or_gone() { ready "$2" || ! kill -0 "$1"; }

case ${1:-} in
  '')
    install_it
    programs
    ;;
  up)
    [ $# -ge 3 ] || fail "say: postgres.sh up FOLDER PORT"
    install_it
    bin=$(programs)
    mkdir -p "$2"
    folder=$(cd "$2" && pwd)
    only_one_in "$folder"
    if pid_of "$folder"; then
      port=$(sed -n 4p "$folder/data/postmaster.pid")
      [ "$port" = "$3" ] || say "the server of $folder is there already, on port $port and not $3"
      echo "postgres://fairlead@127.0.0.1:$port/postgres"
      exit 0
    fi
    if [ ! -s "$folder/data/PG_VERSION" ]; then
      rm -rf "$folder/data"
      mkdir -m 700 "$folder/data"
      (as_nobody "$bin/initdb" --pgdata="$folder/data" --username=fairlead --auth=trust \
        --encoding=UTF8 --locale=C.UTF-8) > "$folder/initdb.log" 2>&1 9>&- ||
        { tail -5 "$folder/initdb.log" >&2; fail "cannot make a database; see $folder/initdb.log"; }
    fi
    listen=127.0.0.1
    case ${4:-127.0.0.1} in
      127.0.0.1) ;;
      *)
        listen=$listen,$4
        grep -q "$4/24" "$folder/data/pg_hba.conf" ||
          echo "host all all $4/24 trust" >> "$folder/data/pg_hba.conf"
        ;;
    esac
    for ((port = $3; port < $3 + 10; port++)); do
      # What the last one wrote would be taken for the word of the next one.
      rm -f "$folder/data/postmaster.pid" "$folder/log"
      (as_nobody setsid "$bin/postgres" -D "$folder/data" -p "$port" -c listen_addresses="$listen" \
        -c unix_socket_directories= -c max_connections=300 -c jit=off) \
        > "$folder/log" 2>&1 < /dev/null 9>&- &
      wait_until 60 ready_or_gone $! "$folder" || true
      grep -q 'could not create any TCP/IP sockets' "$folder/log" || break
      say "port $port is taken"
    done
    ready "$folder" && pid_of "$folder" ||
      { tail -5 "$folder/log" >&2; fail "Postgres does not start on port $port; see $folder/log"; }
    echo "postgres://fairlead@127.0.0.1:$port/postgres"
    ;;
  schema)
    [ $# -ge 3 ] || fail "say: postgres.sh schema URL NAME"
    install_it
    folder=$SERVICES
    (as_nobody "$(programs)/psql" --quiet --no-psqlrc --dbname="$2" --command="CREATE SCHEMA $3") >&2
    echo "$2?options=-csearch_path%3D$3"
    ;;
  down)
    [ $# -ge 2 ] || fail "say: postgres.sh down FOLDER"
    pid_of "$2" || exit 0
    # Those that are connected are sent away; what they committed is kept.
    kill -INT "$(cat "$2/pid")"
    wait_until 20 lives_not "$2/pid" postgres || kill -KILL "$(cat "$2/pid")"
    rm -f "$2/pid"
    ;;
  *) fail "say: postgres.sh [up FOLDER PORT [ADDRESS] | schema URL NAME | down FOLDER]" ;;
esac
