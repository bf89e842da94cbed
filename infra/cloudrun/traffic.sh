#!/usr/bin/env bash
# Which revisions of the two services have the traffic. REGION names the region, gcloud's settings the project.
#
#   traffic.sh serving                      preprocess=REVISION and classify=REVISION that have all of it now
#   traffic.sh urls                         NAME=URL of both, NAME_candidate=URL of the revisions so tagged
#   traffic.sh shift                        all of it to the latest revisions
#   traffic.sh restore PREPROCESS CLASSIFY  all of it back to these revisions
set -euo pipefail

die() {
    printf 'traffic.sh: %s\n' "$*" >&2
    exit 1
}

describe() {
    gcloud run services describe "$1-service" "--region=$REGION" --format=json ||
        die "no $1-service: infra/cloudrun/deploy.sh makes it"
}

give() { # NAME FLAG
    gcloud run services update-traffic "$1-service" "--region=$REGION" "$2" --remove-tags=candidate
}

serving() {
    local name service revision
    for name in preprocess classify; do
        service=$(describe "$name")
        revision=$(jq -er '[.status.traffic[] | select(.percent == 100).revisionName] | first' <<<"$service") ||
            die "no revision of $name-service has all of the traffic"
        echo "$name=$revision"
    done
}

urls() {
    local name service url candidate
    for name in preprocess classify; do
        service=$(describe "$name")
        url=$(jq -er .status.url <<<"$service") || die "$name-service has no URL"
        candidate=$(jq -er '[.status.traffic[] | select(.tag == "candidate").url] | first' <<<"$service") ||
            die "$name-service has no candidate"
        printf '%s=%s\n%s_candidate=%s\n' "$name" "$url" "$name" "$candidate"
    done
}

[[ -n ${REGION:-} ]] || die "set REGION"
# forwards the one that reads events goes first, backwards the one that writes them
case ${1:-} in
serving | urls) "$1" ;;
shift)
    give classify --to-latest
    give preprocess --to-latest
    ;;
restore)
    [[ $# == 3 && -n $2 && -n $3 ]] || die "restore wants two revisions"
    status=0
    give preprocess "--to-revisions=$2=100" || status=1
    give classify "--to-revisions=$3=100" || status=1
    exit $status
    ;;
*)
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
