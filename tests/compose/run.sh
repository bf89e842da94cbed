#!/usr/bin/env bash
# `make compose-test`: builds the images with a real Docker engine and drives the compose stack.
#
#   COMPOSE_TEST=required   no engine is a failure, not a note
#   COMPOSE_TEST_S3=minio   that MinIO cannot be built is a failure; else Swift takes its place, with a note
#                  =swift   Swift in any case
#   COMPOSE="docker compose"   which compose; default: the first of `docker compose`, `docker-compose`
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

engine=infra/docker/engine.sh
report=build/reports/compose.xml
log=build/reports/compose-build.log
started=""
began=$SECONDS
mkdir -p build/reports

note() { echo "compose-test: $*"; }

fail() {
    tail -n 40 "$log"
    note "$*"
    note "0 passed, 1 failed"
    exit 1
}

no_engine() {
    cat "$log"
    note "SKIPPED: no Docker engine: $(tail -n 1 "$log")"
    [ "${COMPOSE_TEST:-}" != required ]
    exit
}

# What an interrupted test leaves behind; only on an engine of our own, where nobody else's test runs.
remove_leftovers() {
    local kind
    docker ps -aq --filter name=darkroom-test- | xargs -r docker rm -fv >/dev/null
    for kind in network volume; do
        docker $kind ls -q --filter name=darkroom-test- | xargs -r docker $kind rm >/dev/null
    done
    # the stages of the last builds are tagged: older ones go
    docker image prune -f >/dev/null
}

# shellcheck disable=SC2317 # called by the trap
cleanup() {
    [ -n "$started" ] || return
    remove_leftovers
    bash "$engine" stop
}
trap cleanup EXIT
trap 'exit 130' INT TERM

get_engine() {
    DOCKER_HOST=$(bash "$engine" socket)
    if [ -z "$DOCKER_HOST" ]; then
        unset DOCKER_HOST
        bash "$engine" start >"$log" 2>&1 || no_engine
        started=yes
        DOCKER_HOST=$(bash "$engine" socket)
    fi
    export DOCKER_HOST
    [ -z "$started" ] || remove_leftovers
    if [ -z "${COMPOSE:-}" ]; then
        COMPOSE=docker-compose
        ! docker compose version >/dev/null 2>&1 || COMPOSE="docker compose"
    fi
    export COMPOSE
    note "engine $(docker version --format '{{.Server.Version}}'), $($COMPOSE version --short 2>/dev/null)"
}

bases() { bash infra/docker/base_images.sh "$@" >"$log" 2>&1; }

# NAME CONTEXT [OPTION…]: by the engine's own builder, which compose 1.29 uses too. The first stage gets a
# name as well, so that it outlives the pruning.
build() {
    local name=$1 context=$2
    shift 2
    { DOCKER_BUILDKIT=0 docker build --target build -t "$name-build" "$@" "$context" &&
        DOCKER_BUILDKIT=0 docker build -t "$name" "$@" "$context"; } >"$log" 2>&1
}

choose_s3_server() {
    local why
    S3_SERVER=${COMPOSE_TEST_S3:-}
    if [ "$S3_SERVER" != swift ]; then
        if bases "$(sed -n 's/^FROM \(golang:[^ ]*\).*/\1/p' infra/minio/Dockerfile)" && build darkroom-minio infra/minio; then
            S3_SERVER=minio
        else
            why=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -v '^The command' | tail -n 2 | tr -s '\n\t ' ' ')
            [ "$S3_SERVER" != minio ] || fail "MinIO cannot be built here"
            note "NOTE: MinIO cannot be built here ($why); Swift takes its place, and infra/minio/Dockerfile is NOT tested"
            S3_SERVER=swift
        fi
    fi
    [ "$S3_SERVER" = minio ] || build darkroom-test-swift tests -f tests/compose/swift/Dockerfile ||
        fail "Swift cannot be built"
    export S3_SERVER
}

get_engine
bases debian:trixie-slim || fail "no base image"
for service in preprocess classify; do
    build darkroom-$service . -f ${service}_service/Dockerfile || fail "the image of $service cannot be built"
done
for engine_image in gateway postgres rabbitmq; do
    DOCKER_BUILDKIT=0 docker build -t darkroom-$engine_image infra/$engine_image >"$log" 2>&1 ||
        fail "the image of $engine_image cannot be built"
done
choose_s3_server
note "images built after $((SECONDS - began)) s; storage server: $S3_SERVER"

/usr/bin/python3 -m pytest -v --timeout=600 -p no:cacheprovider -o junit_family=xunit1 --junitxml="$report" \
    -rs ${TESTS:+-k "$TESTS"} tests/compose/test_compose.py
status=$?
/usr/bin/python3 - "$report" $((SECONDS - began)) "$S3_SERVER" <<'PY'
import sys
import xml.etree.ElementTree as ET
suite = ET.parse(sys.argv[1]).getroot().find("testsuite")
failed = int(suite.get("failures")) + int(suite.get("errors"))
skipped = int(suite.get("skipped"))
passed = int(suite.get("tests")) - failed - skipped
for size in suite.iter("property"):
    print(f"compose-test: {size.get('value')}")
print(f"compose-test: on {sys.argv[3]}, in {sys.argv[2]} s")
print(f"compose-test: {passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
PY
exit $status
