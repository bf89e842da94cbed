#!/usr/bin/env bash
# Removes what deploy.sh made. A second run finds nothing to do.
#
#   PROJECT_ID=… REGION=… REPO=… BUCKET=… infra/cloudrun/remove.sh [--yes] [--delete-data] [--dry-run]
#
#   --yes          do not ask
#   --delete-data  the bucket and every object in it, too; otherwise they stay
#   --dry-run      print every command, as if all of it existed; run none
#
# PREP_TOPIC, CLASS_TOPIC as for deploy.sh. The APIs stay enabled. A workload identity pool stays "deleted" for
# 30 days; deploy.sh then wants it undeleted: gcloud iam workload-identity-pools undelete.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=/dev/null
source "$here/common.sh"

DRY_RUN=0 YES=0 DELETE_DATA=0

# gone GROUP… -- NAME… FLAG…: delete unless it is gone.
gone() {
    local group=()
    while [[ $1 != -- ]]; do
        group+=("$1")
        shift
    done
    shift
    if ((DRY_RUN)) || exists gcloud "${group[@]}" describe "$@"; then
        run gcloud "${group[@]}" delete "$@" --quiet
    fi
}

remove() {
    local topic name
    for name in preprocess-service classify-service; do
        gone run services -- "$name" "--region=$REGION"
    done
    for name in "$SUBSCRIPTION" "$DEAD_SUBSCRIPTION"; do
        gone pubsub subscriptions -- "$name"
    done
    for topic in "$PREP_TOPIC" "$CLASS_TOPIC" "$DEAD_TOPIC"; do
        gone pubsub topics -- "$topic"
    done
    gone artifacts repositories -- "$REPO" "--location=$REGION"
    gone iam workload-identity-pools -- "$POOL" --location=global
    for name in "$PREPROCESS_ACCOUNT" "$CLASSIFY_ACCOUNT" "$PUSH_ACCOUNT" "$DEPLOY_ACCOUNT"; do
        gone iam service-accounts -- "$name"
    done
    if ((!DELETE_DATA)); then
        say "# gs://$BUCKET and what is in it stay (--delete-data)"
    elif ((DRY_RUN)) || exists gcloud storage buckets describe "gs://$BUCKET"; then
        run gcloud storage rm --recursive "gs://$BUCKET"
    fi
}

while (($#)); do
    case $1 in
    --yes) YES=1 ;;
    --delete-data) DELETE_DATA=1 ;;
    --dry-run) DRY_RUN=1 ;;
    -h | --help)
        usage
        exit
        ;;
    *) die "unknown argument: $1 (see --help)" ;;
    esac
    shift
done

settings
if ((!YES && !DRY_RUN)); then
    data="The bucket $BUCKET stays."
    ((!DELETE_DATA)) || data="The bucket $BUCKET and ALL OBJECTS in it go, too."
    read -r -p "Remove Darkroom from project $PROJECT_ID ($REGION)? $data Type yes: " answer || answer=
    [[ $answer == yes ]] || die "nothing removed"
fi
remove
