#!/usr/bin/env bash
# Does a deployment work? Uploads a picture, has it labelled directly, and waits for the label that its
# announcement leads to. The exit status tells; what went wrong is on stderr.
#
#   PREPROCESS_URL=… CLASSIFY_URL=… infra/cloudrun/smoke_test.sh PICTURE
#
#   PREPROCESS_TOKEN, CLASSIFY_TOKEN   identity tokens for the two services, where they want some
#   SMOKE_TIMEOUT_S                    for the label to arrive, default 60
set -euo pipefail

die() {
    printf 'smoke test: %s\n' "$*" >&2
    exit 1
}

# call TOKEN CURL-ARGUMENT…: prints the body; a status other than 2xx is the end
call() {
    local token=$1 reply status
    shift
    # the token is not an argument: those are for all to see
    reply=$(curl -sS --max-time 60 --retry 3 --retry-connrefused -w '\n%{http_code}' \
        ${token:+-H @-} "$@" <<<"Authorization: Bearer $token") || die "no answer: $*"
    status=${reply##*$'\n'}
    printf '%s\n' "${reply%$'\n'*}"
    [[ $status == 2?? ]] || die "$status from $*: ${reply%$'\n'*}"
}

[[ $# == 1 && -r $1 && -n ${PREPROCESS_URL:-} && -n ${CLASSIFY_URL:-} ]] || {
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
picture=$1
deadline=$((SECONDS + ${SMOKE_TIMEOUT_S:-60}))

reply=$(call "${PREPROCESS_TOKEN:-}" -F "file=@$picture" "$PREPROCESS_URL/preprocess")
uri=$(jq -er .gcs_path <<<"$reply") || die "no gcs_path in $reply"

labels=$(call "${CLASSIFY_TOKEN:-}" -H 'Content-Type: application/json' -d "$reply" "$CLASSIFY_URL/classify")
direct=$(jq -er .label <<<"$labels") || die "no label in $labels"

until
    result=$(call "${CLASSIFY_TOKEN:-}" -G --data-urlencode "gcs_path=$uri" "$CLASSIFY_URL/results")
    label=$(jq -er .label <<<"$result")
do
    ((SECONDS < deadline)) || die "no result of $uri: $result"
    sleep 1
done
[[ $label == "$direct" ]] || die "the stored label is $label, /classify returns $direct"
printf 'smoke test: %s is labelled %s\n' "$uri" "$label"
