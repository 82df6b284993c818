#!/bin/bash
# Shows Fairlead at work: releases the shop from source to production, then lets a push to the
# registry start a pipeline. `make demo` runs it.
#
# What is missing is installed and started first: a Docker engine, a registry, a NATS server, cosign
# and crane as judges. Programs stay under target/services (or FAIRLEAD_SERVICES) for the next time;
# everything that this script started ends with it. Each time begins with an empty registry and an
# empty target/demo.
#
# From the environment: REGISTRY_PORT (5055), NATS_PORT (4255), FAIRLEAD_PORT (8455); FAIRLEAD_BIN, a
# program to show instead of building one; FAIRLEAD_OSV, a folder with advisories in the layout of
# the OSV dumps.
. "$(dirname "${BASH_SOURCE[0]}")/../tests/setup/env.sh"

DEMO=$REPO/target/demo
SETUP=$REPO/tests/setup
REGISTRY_PORT=${REGISTRY_PORT:-5055}
NATS_PORT=${NATS_PORT:-4255}
FAIRLEAD_PORT=${FAIRLEAD_PORT:-8455}
VERSION=v1.0.0
SERVER=http://127.0.0.1:$FAIRLEAD_PORT

BOLD='' DIM='' GREEN='' BLUE='' PLAIN='' COLOR=never WIDTH=1000
if [ -t 1 ]; then
  WIDTH=$(stty size < /dev/tty 2>/dev/null | cut -d' ' -f2)
  WIDTH=${WIDTH:-80}
  if [ -z "${NO_COLOR:-}" ]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' BLUE=$'\e[1;34m' PLAIN=$'\e[0m' COLOR=always
  fi
fi

chapter() { printf '\n%s━━ %s%s\n\n' "$BLUE" "$*" "$PLAIN"; }
text() { printf '%s\n' "$@"; }
good() { printf '  %s✓%s %s\n' "$GREEN" "$PLAIN" "$*"; }
fact() { printf '  %s%-10s%s %s\n' "$DIM" "$1" "$PLAIN" "$2"; }
indent() { sed 's/^/  /'; }
# Digests in brief, and no line wider than the terminal.
brief() {
  python3 -c 'import re, sys
for line in sys.stdin:
    line = re.sub(r"([0-9a-f]{12})[0-9a-f]{52}", r"\1…", line.rstrip("\n"))
    print(line if len(line) <= int(sys.argv[1]) else line[: int(sys.argv[1]) - 1] + "…")' "$WIDTH"
}
# shown TEXT COMMAND…: the command as a person would type it, then what it does.
shown() {
  printf '%s$ %s%s\n' "$BOLD" "$1" "$PLAIN"
  shift
  "$@"
}
fairlead() { command "$BINARY" "$@"; }
# value EXPRESSION: of the run on standard input, as `d` in Python.
value() { python3 -c "import json,sys; d = json.load(sys.stdin); print($1)"; }

# What the server wrote about event $1 and run $2.
log_of() {
  python3 - "$DEMO/serve.log" "$@" <<'END'
import re, sys

path, event, run = sys.argv[1:]
others = 0
for line in open(path):
    entry = re.match(r"\S*T([0-9:]{8}\.\d{3})\S* +INFO fairlead_\w+::(?:\w+::)*(\w+): (.*)", line)
    if entry is None:
        continue
    if event in line or run in line:
        at, part, said = entry.groups()
        print(f"{at}  {part:<8}  {re.sub(r' (source|event|duplicate)=[^ ]*', '', said)}")
    else:
        others += entry.group(2) == "webhook"
print(f"({others} notices of our own release came first: no filter let them in)")
END
}
# The steps of `fairlead show` on standard input, without their outputs.
timeline() { grep -vE $'^  (\e\\[2m)?[a-z-]+\\.[a-z_]+(\e\\[0m)?  ' | cat -s | sed '1{/^$/d}'; }
# The newest event in the stream, asked of the NATS server in its own protocol.
stored_event() {
  python3 - "$NATS_PORT" <<'END'
import base64, json, socket, sys

nats = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
ask = b'{"last_by_subj": "fairlead.events.>"}'
api = b"$JS.API.STREAM.MSG.GET.FAIRLEAD"
nats.sendall(b'CONNECT {"verbose": false}\r\nSUB answer 1\r\n')
nats.sendall(b"PUB %s answer %d\r\n%s\r\n" % (api, len(ask), ask))
lines = nats.makefile("rb")
while not next(lines).startswith(b"MSG "):
    pass
message = json.loads(next(lines))["message"]
event = json.loads(base64.b64decode(message["data"]))
print("subject  ", message["subject"], "number", message["seq"])
for key in ("id", "type", "source", "subject", "time"):
    print(f"{key:<9}", event.get(key))
END
}

# --- what ends with this script ---
ENGINE_WAS_UP=no
lives "$SERVICES/docker/pid" dockerd && ENGINE_WAS_UP=yes
SERVE=''
# Asks the server to end, and waits until it has.
end_serve() {
  [ -n "$SERVE" ] || return 0
  kill -TERM "$SERVE" 2>/dev/null || true
  wait "$SERVE" 2>/dev/null || true
  SERVE=''
}
end_services() {
  "$SETUP/nats.sh" down "$SERVICES/demo/nats"
  "$SETUP/registry.sh" down "$SERVICES/demo/registry"
}
finish() {
  local code=$?
  trap '' HUP INT TERM
  end_serve
  end_services
  [ "$ENGINE_WAS_UP" = yes ] || "$SETUP/docker.sh" stop
  [ "$code" = 0 ] || say "it ended early; what is left to look at is in $DEMO"
  exit "$code"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# --- what it needs ---
chapter 'Getting ready'
command -v cargo >/dev/null || fail "cargo is missing; install Rust with rustup"
need git curl python3
end_services
rm -rf "$DEMO" "$SERVICES/demo"
mkdir -p "$DEMO"
cd "$REPO"

BINARY=${FAIRLEAD_BIN:-}
if [ -z "$BINARY" ]; then
  text 'Building the program (the first time takes minutes).'
  cargo build --package fairlead --bin fairlead
  BINARY=${CARGO_TARGET_DIR:-$REPO/target}/debug/fairlead
fi
good "$(fairlead --version)"

# The registry proves itself to Fairlead's webhook with this token.
FAIRLEAD_SECRET_REGISTRY_HOOK=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
export FAIRLEAD_SECRET_REGISTRY_HOOK
services=$(
  export REGISTRY_PORT NATS_PORT
  export NOTIFY_URL=http://registry:$FAIRLEAD_SECRET_REGISTRY_HOOK@${SERVER#*//}/webhooks/registry
  "$SETUP/services.sh" up
)
eval "$services"
export DOCKER_HOST
good "a Docker engine at $DOCKER_HOST"
good "a registry at $REGISTRY"
good "a NATS server with JetStream at $NATS_URL"

ORACLES=$("$SETUP/oracles.sh")
# The judges keep their own files here.
judge() { HOME=$DEMO "$ORACLES/$1" "${@:2}"; }
# Debian's builds do not know their own version; their change logs do.
version() {
  gzip -dc "$SERVICES/oracles/$1/usr/share/doc/$2/changelog.Debian.gz" |
    sed -n '1s/.*(\([0-9.]*\).*/\1/p'
}
COSIGN2=$(version two cosign) COSIGN3=$(version three cosign)
good "cosign $COSIGN2 and $COSIGN3 and crane $(version three crane), to judge the result"

examples/shop/fetch.sh
good 'the packages of the shop, checked against their hashes'

COSIGN_PASSWORD=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
export COSIGN_PASSWORD
judge cosign2 generate-key-pair --output-key-prefix "$DEMO/cosign" 2>/dev/null
good 'a new key pair by cosign, encrypted with a password'

export FAIRLEAD_STATE=$DEMO/state
osv=${FAIRLEAD_OSV:-}
if [ -z "$osv" ]; then
  osv=$DEMO/advisories
  for ecosystem in examples/shop/advisories/*/; do
    mkdir -p "$osv/$(basename "$ecosystem")"
    python3 -m zipfile -c "$osv/$(basename "$ecosystem")/all.zip" "$ecosystem"*.json
  done
fi
database=$(fairlead db update --from "$osv" 2>"$DEMO/db.log") || { cat "$DEMO/db.log" >&2; exit 1; }
records=$(fairlead db info | sed -n 's/^records *//p')
good "a database of $records advisories: ${database:0:19}…"

GITOPS=$DEMO/gitops.git
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_PAGER=
cp -r examples/shop/gitops "$DEMO/gitops"
git -C "$DEMO/gitops" init --quiet --initial-branch main
git -C "$DEMO/gitops" add --all
git -C "$DEMO/gitops" -c user.name='Platform team' -c user.email=platform@example.com \
  commit --quiet --message 'What runs before the demo'
git clone --quiet --bare "$DEMO/gitops" "$GITOPS"
good 'a bare git repository for the cluster to follow'

# --- the release ---
chapter 'A release: from source to production'
text 'The pipeline, as it is understood before anything runs:' ''
shown 'fairlead graph pipelines/release.yaml' fairlead graph pipelines/release.yaml
text ''
release_arguments=(run pipelines/release.yaml --workspace examples/shop --set "version=$VERSION"
  --set "registry=$REGISTRY" --set "gitops=file://$GITOPS"
  --secret "cosign=file:$DEMO/cosign.key" --secret cosign_password=env:COSIGN_PASSWORD --quiet)
shown "fairlead run pipelines/release.yaml --workspace examples/shop --set …" \
  fairlead "${release_arguments[@]}"
run=$(fairlead show latest --json)
id=$(value 'd["run"]' <<< "$run")
text "\`fairlead logs $id\` has its logs," \
  "\`fairlead show $id\` what each step gave."
image=$(value 'd["steps"]["build"]["outputs"]["image"]' <<< "$run")
promoted=$(value 'd["steps"]["promote"]["outputs"]["image"]' <<< "$run")
digest=${image#*@}

chapter 'What came out'
fact image "${image%@*}, whose digest is"
text "  $digest"
fact packages "$(value '"{} ({})".format((s := d["steps"]["sbom"]["outputs"])["packages"],
  ", ".join(f"{n} {k}" for k, n in s["ecosystems"].items()))' <<< "$run")"
fact findings "$(value '", ".join(f"{n} {k}" for k, n in
  d["steps"]["scan"]["outputs"]["counts"].items() if n) or "none"' <<< "$run")"
text ''
printf '%s$ fairlead show %s --artifact scan.table%s\n' "$BOLD" "$id" "$PLAIN"
fairlead show "$id" --artifact scan.table > "$DEMO/findings.txt"
sed -n '1,12p' "$DEMO/findings.txt" | indent | brief
more=$(($(wc -l < "$DEMO/findings.txt") - 12))
[ "$more" -le 0 ] || text "  … and $more lines more"

text '' 'Two independent programs look for the signature of what went to production:'
for cosign in cosign2 cosign3; do
  [ $cosign = cosign2 ] && release=$COSIGN2 || release=$COSIGN3
  judge "$cosign" verify --key "$DEMO/cosign.pub" --insecure-ignore-tlog=true "$promoted" \
    > "$DEMO/$cosign.json" 2> "$DEMO/$cosign.log" ||
    { cat "$DEMO/$cosign.log" >&2; fail "cosign $release does not take the signature"; }
  signed=$(value 'd[0]["critical"]["image"]["docker-manifest-digest"]' < "$DEMO/$cosign.json")
  [ "$signed" = "$digest" ] || fail "cosign $release found a signature of $signed"
  good "cosign $release verify says OK, for the digest above"
done

text '' "Tags of $REGISTRY/prod/shop, as crane sees them:"
for tag in "$VERSION" stable; do
  found=$(judge crane digest "$REGISTRY/prod/shop:$tag")
  [ "$found" = "$digest" ] || fail "the tag $tag points to $found"
  good "$tag → the digest above"
done

text '' 'The commit that the cluster sees:'
git -C "$GITOPS" show --color=$COLOR --unified=1 --format='%C(yellow)%h%C(reset) %B' main |
  sed -E '/index [0-9a-f]+\.\./d; s/([0-9a-f]{12})[0-9a-f]{52}/\1…/g' | cat -s | indent

# --- the event ---
chapter 'An event: somebody pushes an image'
cat > "$DEMO/serve.yaml" <<END
sources:
  registry: {kind: distribution, registry: "$REGISTRY", secret: registry_hook}
projects:
  default:
    allow: {kinds: [sbom, scan, command], host_programs: [echo]}
END
shown 'fairlead serve --pipelines pipelines --config serve.yaml --nats …' true
"$BINARY" serve --pipelines pipelines --config "$DEMO/serve.yaml" --listen "${SERVER#*//}" \
  --nats "$NATS_URL" > "$DEMO/serve.log" 2>&1 &
SERVE=$!
ready_or_gone() { curl -fsS -m 2 "$SERVER/healthz" || ! kill -0 "$SERVE"; }
wait_until 30 ready_or_gone && kill -0 "$SERVE" ||
  { cat "$DEMO/serve.log" >&2; fail 'the server does not start'; }
good "it listens at $SERVER"

pushed=$REGISTRY/incoming/shop:v1.0.1
shown "crane copy … $pushed" judge crane copy "$image" "$pushed" 2>"$DEMO/crane.log"
ended_run() {
  curl -fsS -m 5 "$SERVER/api/v1/runs?pipeline=intake" |
    value '[run["run"] for run in d["runs"] if run["ended_at"]][0]'
}
wait_until 60 ended_run || { tail -20 "$DEMO/serve.log" >&2; fail 'the push started no run'; }
second=$(ended_run)
event=$(sed -n "s/.*is started event=\"\([0-9a-f]*\)\" run=$second.*/\1/p" "$DEMO/serve.log")
text '' 'What the server did with it:'
log_of "$event" "$second" | indent | brief
text ''
fairlead --color "$COLOR" show "$second" | timeline
text ''
text 'The event as NATS keeps it:'
stored_event | indent | brief
text '' 'What the pipeline wrote down:'
fairlead logs "$second" record | indent | brief
end_serve

# --- the walk back ---
chapter 'From the digest alone: where it came from'
text 'On another machine, without the store: what hangs at the image in the registry tells its life.' ''
shown "fairlead trace $REGISTRY/prod/shop:stable --key cosign.pub" true
fairlead --state "$DEMO/elsewhere" --color "$COLOR" trace "$REGISTRY/prod/shop:stable" \
  --key "$DEMO/cosign.pub" > "$DEMO/trace.txt" || fail 'the walk back found what does not hold'
brief < "$DEMO/trace.txt" | indent
for stage in source build contents findings signature promotion; do
  grep -q " $stage" "$DEMO/trace.txt" || fail "nothing tells its $stage"
done
good 'every stage is verified by the public key'

chapter "Done in $SECONDS s"
text 'Everything is in target/demo: try `fairlead --state target/demo/state runs`.'
