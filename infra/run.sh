#!/usr/bin/env bash
# `make run`: both services on embedded defaults (file store, outbox), a first labelled image, then
# their logs until Ctrl-C.
#
#   PHOTO=path             the picture to try (default: a photograph or a drawn clock)
#   PREPROCESS_PORT, CLASSIFY_PORT   default 8000, 8001
set -euo pipefail
cd "$(dirname "$0")/.."

preprocess=http://127.0.0.1:${PREPROCESS_PORT:=8000}
classify=http://127.0.0.1:${CLASSIFY_PORT:=8001}
logs=data/logs
pids=()

# shellcheck disable=SC2317 # called by the traps
stop() {
    trap - EXIT INT TERM
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
}
trap stop EXIT
trap 'echo; stop; exit 0' INT TERM

# start NAME PORT [VARIABLE=VALUE …]: one service, its log in a file
start() {
    local name=$1 port=$2
    shift 2
    env HOST=127.0.0.1 PORT="$port" LOG_FORMAT=text "$@" "build/$name" >"$logs/$name.log" 2>&1 &
    pids+=($!)
}

# wait_ready NAME URL PID
wait_ready() {
    for _ in $(seq 500); do
        curl -fso /dev/null --noproxy '*' "$2/readyz" && kill -0 "$3" 2>/dev/null && return
        if ! kill -0 "$3" 2>/dev/null; then
            echo "$1 did not start:" >&2
            cat "$logs/$1.log" >&2
            exit 1
        fi
        sleep 0.01
    done
    echo "$1 did not become ready; see $logs/$1.log" >&2
    exit 1
}

choose_photo() {
    [ -f data/clock.png ] || /usr/bin/python3 infra/demo/draw_clock.py data/clock.png
    if [ -n "${PHOTO:-}" ]; then
        [ -f "$PHOTO" ] || { echo "PHOTO=$PHOTO: no such file" >&2; exit 1; }
        return
    fi
    PHOTO=../shared/photos/n02099601_golden_retriever.JPEG
    [ -f "$PHOTO" ] && return
    PHOTO=data/clock.png
}

mkdir -p "$logs"
choose_photo
PHOTO=$(realpath "$PHOTO")
start classify-service "$CLASSIFY_PORT"
start preprocess-service "$PREPROCESS_PORT" EVENTS_URL="push+$classify/pubsub" RESULTS_BASE_URL="$classify"
wait_ready classify-service "$classify" "${pids[0]}"
wait_ready preprocess-service "$preprocess" "${pids[1]}"

reply=$(curl -sS --noproxy '*' -F "file=@$PHOTO" "$preprocess/preprocess")
result=$(jq -r '.result_url // empty' <<<"$reply")
[ -n "$result" ] || { echo "the upload of $PHOTO failed: $reply" >&2; exit 1; }
labels=$(curl -sS --noproxy '*' --retry 0 "$result")
for _ in $(seq 200); do
    [ "$(jq -r .status <<<"$labels")" = pending ] || break
    sleep 0.02
    labels=$(curl -sS --noproxy '*' "$result")
done

cat <<TEXT

Darkroom is running.

  \$ curl -F file=@$PHOTO $preprocess/preprocess
  $reply

  \$ curl $result
  $labels

  => $(jq -r '"\(.label) (\(.confidence * 100 | round) %)"' <<<"$labels")

  upload    $preprocess/preprocess
  image     $preprocess/images/$(jq -r .id <<<"$reply")
  result    $result
  API       $preprocess/openapi.json  $classify/openapi.json

Try:
  curl -F file=@$PHOTO '$preprocess/preprocess?width=800&fit=inside&format=webp'
  curl -F file=@$PHOTO $classify/classify
  curl $preprocess/metrics

Objects are in data/objects, logs in $logs. Ctrl-C stops.

TEXT

tail -q -n 0 -F "$logs"/*.log 2>/dev/null &
tail=$!
wait -n "${pids[@]}" || true
kill "$tail" 2>/dev/null || true
echo "a service has stopped; see $logs" >&2
exit 1
