#!/bin/bash
# Starts what the demo needs, and ends it.
#
#   services.sh up       a Docker engine with the base image, a registry, a NATS server; prints
#                        DOCKER_HOST, REGISTRY and NATS_URL as lines for `eval` or a .env file
#   services.sh down     ends what `up` started, and the Postgres server that tests leave running when
#                        `cargo test` starts it by itself; nothing else
#
# REGISTRY_PORT (5055), NATS_PORT (4255) and NOTIFY_URL (where the registry sends its notifications;
# empty for nowhere) are taken from the environment.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

DEMO=$SERVICES/demo
case ${1:-} in
  up)
    engine=$("$HERE/docker.sh")
    export DOCKER_HOST=$engine
    "$HERE/base-images.sh" >/dev/null
    registry=$("$HERE/registry.sh" up "$DEMO/registry" "${REGISTRY_PORT:-5055}" "${NOTIFY_URL:-}")
    nats=$("$HERE/nats.sh" up "$DEMO/nats" "${NATS_PORT:-4255}")
    printf 'DOCKER_HOST=%s\nREGISTRY=%s\nNATS_URL=%s\n' "$engine" "$registry" "$nats"
    ;;
  down)
    "$HERE/nats.sh" down "$DEMO/nats"
    "$HERE/registry.sh" down "$DEMO/registry"
    "$HERE/postgres.sh" down "$SERVICES/store-tests"
    "$HERE/docker.sh" stop
    ;;
  *) fail "say: services.sh up | down" ;;
esac
