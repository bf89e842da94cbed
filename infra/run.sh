#!/usr/bin/env bash
# `make run`: both services on embedded defaults (file store, outbox), a first labelled image, then
# their logs until Ctrl-C.
#
#   PHOTO=path             the picture to try (default: a photograph or a drawn clock)
#   PREPROCESS_PORT, CLASSIFY_PORT   default 8000, 8001
#   STORE=file|minio       default file; minio: a MinIO server of our own, with its objects in data/minio
#     MINIO_PORT, MINIO_CONSOLE_PORT, BUCKET_NAME   default 9000, 9001, darkroom
#     MINIO_ROOT_USER, MINIO_ROOT_PASSWORD          default darkroom, darkroom-local-only
#     S3_SIGNATURE=v4|v2   how the services sign; v2 is by libs3
#
# run.sh --check-ports   only says whether a port is taken
set -eEuo pipefail
cd "$(dirname "$0")/.."

preprocess=http://127.0.0.1:${PREPROCESS_PORT:=8000}
classify=http://127.0.0.1:${CLASSIFY_PORT:=8001}
logs=data/logs
store=() # the services' storage settings
objects="Objects are in data/objects"
pids=()
declare -A names=() # of what runs, by process id
tail=

die() {
    echo "run.sh: $*" >&2
    exit 1
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() { # FROM
    local port=$1
    while port_taken "$port"; do port=$((port + 1)); done
    echo "$port"
}

check_ports() {
    local port other
    for port in "$PREPROCESS_PORT" "$CLASSIFY_PORT"; do
        port_taken "$port" || continue
        other=$(free_port 8010)
        die "port $port is taken, perhaps by another Darkroom. Stop what uses it, or choose other ports:
  PREPROCESS_PORT=$other CLASSIFY_PORT=$(free_port $((other + 1))) make run"
    done
}

# shellcheck disable=SC2317 # called by the traps
stop() {
    local i
    trap - EXIT INT TERM
    [ -z "$tail" ] || kill "$tail" 2>/dev/null || true
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do # the store last
        kill "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" || true
    done
}
trap stop EXIT
trap 'echo "run.sh: this failed: $BASH_COMMAND" >&2' ERR
trap 'echo; stop; exit 0' INT TERM

# start NAME PORT [VARIABLE=VALUE …]: one service, its log in a file
start() {
    local name=$1 port=$2
    shift 2
    env HOST=127.0.0.1 PORT="$port" LOG_FORMAT=text "$@" "build/$name" >"$logs/$name.log" 2>&1 &
    pids+=($!)
    names[$!]=$name
}

# quote PID: how it ended, and the last errors in its log; without any, the last lines
quote() {
    local log=$logs/${names[$1]}.log status=0
    wait "$1" || status=$?
    echo "${names[$1]} ended with status $status; $log ends with:" >&2
    { grep -vE '^[0-9:.]{12} (DEBU|INFO|WARN) ' "$log" || cat "$log"; } | tail -n 5 | cut -c 1-300 | sed 's/^/  /' >&2
}

running() { kill -0 "$1" 2>/dev/null; }

# fail WHAT: what went wrong, and the reason: what those that have ended wrote last
fail() {
    local pid ended=
    [ -z "$tail" ] || kill "$tail" 2>/dev/null || true
    echo "run.sh: $*" >&2
    for pid in "${pids[@]}"; do
        running "$pid" || { ended=yes; quote "$pid"; }
    done
    [ -n "$ended" ] || echo "Look into $logs." >&2
    exit 1
}

# wait_ready NAME URL PID
wait_ready() {
    for _ in $(seq 3000); do
        running "$3" || fail "$1 did not start"
        ! curl -fso /dev/null --noproxy '*' "$2" || return 0
        sleep 0.01
    done
    fail "$1 did not become ready"
}

choose_photo() {
    [ -f data/clock.png ] || /usr/bin/python3 infra/demo/draw_clock.py data/clock.png
    if [ -n "${PHOTO:-}" ]; then
        [ -f "$PHOTO" ] || die "PHOTO=$PHOTO: no such file"
        return
    fi
    PHOTO=../shared/photos/n02099601_golden_retriever.JPEG
    [ -f "$PHOTO" ] && return
    PHOTO=data/clock.png
}

# MinIO: built if need be, started, its bucket made; leaves the services' settings in `store`.
start_minio() {
    local minio status=0 bucket=${BUCKET_NAME:-darkroom}
    local url=http://127.0.0.1:${MINIO_PORT:=9000} console=http://127.0.0.1:${MINIO_CONSOLE_PORT:=9001}
    export MINIO_ROOT_USER=${MINIO_ROOT_USER:-darkroom}
    export MINIO_ROOT_PASSWORD=${MINIO_ROOT_PASSWORD:-darkroom-local-only}

    minio=$(infra/minio/get.sh) || status=$?
    if [ $status -ne 0 ]; then
        echo "STORE=minio: MinIO cannot be built on this machine. Use containers:" >&2
        echo "  docker compose -f minio-compose.yml up --build" >&2
        exit 1
    fi
    ! port_taken "$MINIO_PORT" || die "port $MINIO_PORT is taken: set MINIO_PORT"
    mkdir -p data/minio
    MINIO_UPDATE=off "$minio" server data/minio --address "127.0.0.1:$MINIO_PORT" \
        --console-address "127.0.0.1:$MINIO_CONSOLE_PORT" >"$logs/minio.log" 2>&1 &
    pids+=($!)
    names[$!]=minio
    wait_ready minio "$url/minio/health/ready" $!
    S3_ENDPOINT=$url S3_REGION=us-east-1 infra/minio/create_bucket.sh "$bucket" >"$logs/bucket.log" 2>&1 ||
        { cat "$logs/bucket.log" >&2; exit 1; }

    store=(STORAGE_URL="s3://$bucket" S3_ENDPOINT="$url" S3_REGION=us-east-1
        AWS_ACCESS_KEY_ID="$MINIO_ROOT_USER" AWS_SECRET_ACCESS_KEY="$MINIO_ROOT_PASSWORD"
        OUTBOX_PATH="${OUTBOX_PATH:-data/outbox-minio.db}"
        CATALOGUE_URL="${CATALOGUE_URL:-sqlite:data/catalogue-minio.db}")
    objects="Objects are in bucket $bucket of $url (console: $console, user $MINIO_ROOT_USER),
MinIO's files in data/minio"
}

check_ports
[ "${1:-}" != --check-ports ] || exit 0
mkdir -p "$logs"
choose_photo
case ${STORE:=file} in
file) ;;
minio) start_minio ;;
*) die "STORE=$STORE: file or minio" ;;
esac
PHOTO=$(realpath "$PHOTO")
start classify-service "$CLASSIFY_PORT" "${store[@]}"
[ -n "${CLASSIFIER_ADDR:-}" ] || store+=(CLASSIFIER_URL="$classify/classify")
start preprocess-service "$PREPROCESS_PORT" EVENTS_URL="push+$classify/pubsub" RESULTS_BASE_URL="$classify" "${store[@]}"
wait_ready classify-service "$classify/readyz" "${pids[-2]}"
wait_ready preprocess-service "$preprocess/readyz" "${pids[-1]}"

reply=$(curl -sS --noproxy '*' -F "file=@$PHOTO" "$preprocess/preprocess") || fail "the upload of $PHOTO got no answer"
result=$(jq -r '.result_url // empty' <<<"$reply")
[ -n "$result" ] || fail "the upload of $PHOTO failed: $reply"
for _ in $(seq 1500); do
    labels=$(curl -sS --noproxy '*' "$result") || fail "$result got no answer"
    [ "$(jq -r .status <<<"$labels")" = pending ] || break
    sleep 0.02
done
[ "$(jq -r '.label // empty' <<<"$labels")" ] || fail "$PHOTO got no label: $labels"

# Printed by bash itself: it forgets a Ctrl-C that comes while a program like cat runs.
IFS= read -r -d '' text <<TEXT || true

Darkroom is running. Open $preprocess/

  \$ curl -F file=@$PHOTO $preprocess/preprocess
  $reply

  \$ curl $result
  $labels

  => $(jq -r '"\(.label) (\(.confidence * 100 | round) %, \(.model))"' <<<"$labels")

  upload    $preprocess/preprocess
  image     $preprocess/images/$(jq -r .id <<<"$reply")
  result    $result
  API       $preprocess/openapi.json  $classify/openapi.json

Try:
  curl -F file=@$PHOTO '$preprocess/preprocess?width=800&fit=inside&format=webp'
  curl -F file=@$PHOTO $classify/classify
  curl $preprocess/metrics

$objects, logs in $logs. Ctrl-C stops.

TEXT
printf '%s' "$text"

tail -q -n 0 -F "$logs"/*.log 2>/dev/null &
tail=$!
wait -n "${pids[@]}" || true
fail "a service has stopped"
