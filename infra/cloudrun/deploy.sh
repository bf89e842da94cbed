#!/usr/bin/env bash
# Creates all that Darkroom needs on Google Cloud, and brings it up to date: a second run changes nothing.
#
#   PROJECT_ID=… REGION=europe-west1 REPO=darkroom BUCKET=… infra/cloudrun/deploy.sh [--dry-run] [--only STEP,…]
#
#   PROJECT_ID  REGION  REPO  BUCKET   project, region, Artifact Registry repository, bucket
#   PREPROCESS_IMAGE, CLASSIFY_IMAGE   images to deploy; default: what is deployed, at first
#                                      REGION-docker.pkg.dev/PROJECT_ID/REPO/NAME-service:latest
#   RETENTION_DAYS    objects older than this are deleted by the bucket; 0: never; unset: left as it is
#   PREP_TOPIC, CLASS_TOPIC            default img-preprocessed, img-classified
#   MAX_INSTANCES     of each service, default 10
#   HTTP2=0           requests reach the services as HTTP/1.1, of at most 32 MiB, and calls cannot stream;
#                     default: as HTTP/2 without TLS (h2c), which is --use-http2. TLS is Cloud Run's own
#   PUBLIC=1          anybody may upload and read labels; default: callers need roles/run.invoker
#   GITHUB_REPOSITORY owner/name: lets that repository's main branch deploy (.github/workflows/deploy.yml)
#   CLASSIFY_URL      default: the URL that Cloud Run derives from the project's number
#
#   --dry-run         print every command that changes something, as if nothing existed yet; run none
#   --only STEP,…     of: apis registry bucket accounts topics subscription access services callers github
#
# The first time, the images have to be there before the services: --only apis,registry, push them, then all.
#
# Needs gcloud (logged in as an owner of the project), jq and envsubst.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=/dev/null
source "$here/common.sh"

STEPS=(apis registry bucket accounts topics subscription access services callers github)
APIS=(artifactregistry iam iamcredentials logging pubsub run storage sts)
DRY_RUN=0

# --- what is granted ------------------------------------------------------------------------------

# grant ROLE MEMBER GROUP… NAME [FLAG…]: unless it is granted. GROUP_WORDS of GROUP are words of gcloud's.
# An account made a moment ago may not be known everywhere yet: tried again.
grant() {
    local role=$1 member=$2 attempt
    if policy_has "$@"; then return; fi
    shift 2
    for attempt in 1 2 3 4 5; do
        if run gcloud "${@:1:GROUP_WORDS}" add-iam-policy-binding "${@:GROUP_WORDS+1}" \
            --member="$member" --role="$role"; then return; fi
        sleep $((attempt * 5))
    done
    die "could not grant $role to $member"
}

grant_topic() { GROUP_WORDS=2 grant "$1" "$2" pubsub topics "$3"; }
grant_subscription() { GROUP_WORDS=2 grant "$1" "$2" pubsub subscriptions "$3"; }
grant_bucket() { GROUP_WORDS=2 grant "$1" "$2" storage buckets "gs://$BUCKET"; }
grant_account() { GROUP_WORDS=2 grant "$1" "$2" iam service-accounts "$3"; }
grant_service() { GROUP_WORDS=2 grant "$1" "$2" run services "$3" "--region=$REGION"; }
grant_registry() { GROUP_WORDS=2 grant "$1" "$2" artifacts repositories "$REPO" "--location=$REGION"; }

# --- the steps ------------------------------------------------------------------------------------

step_apis() {
    local enabled missing=() api
    enabled=$(look gcloud services list --enabled '--format=value(config.name)') || enabled=
    for api in "${APIS[@]}"; do
        grep -qx "$api.googleapis.com" <<<"$enabled" || missing+=("$api.googleapis.com")
    done
    if ((${#missing[@]})); then run gcloud services enable "${missing[@]}"; fi
}

step_registry() {
    exists gcloud artifacts repositories describe "$REPO" "--location=$REGION" ||
        run gcloud artifacts repositories create "$REPO" "--location=$REGION" --repository-format=docker \
            '--description=Images of Darkroom'
}

# RETENTION_DAYS as the bucket's lifecycle rules.
lifecycle_rules() {
    if ((RETENTION_DAYS == 0)); then
        echo '{"rule": []}'
    else
        echo "{\"rule\": [{\"action\": {\"type\": \"Delete\"}, \"condition\": {\"age\": $RETENTION_DAYS}}]}"
    fi
}

step_bucket() {
    local bucket rules
    if ! bucket=$(look gcloud storage buckets describe "gs://$BUCKET" --format=json); then
        run gcloud storage buckets create "gs://$BUCKET" "--location=$REGION" \
            --uniform-bucket-level-access --public-access-prevention
        bucket='{}'
    elif ! jq -e '.uniform_bucket_level_access == true and .public_access_prevention == "enforced"' \
        <<<"$bucket" >/dev/null; then
        run gcloud storage buckets update "gs://$BUCKET" --uniform-bucket-level-access --public-access-prevention
    fi
    [[ -n ${RETENTION_DAYS:-} ]] || return 0
    rules=$(lifecycle_rules)
    if jq -e --argjson want "$rules" '(.lifecycle_config.rule // []) == $want.rule' <<<"$bucket" >/dev/null; then
        return
    elif ((RETENTION_DAYS == 0)); then
        run gcloud storage buckets update "gs://$BUCKET" --clear-lifecycle
    else
        say "# $scratch/lifecycle.json: $rules"
        echo "$rules" >"$scratch/lifecycle.json"
        run gcloud storage buckets update "gs://$BUCKET" "--lifecycle-file=$scratch/lifecycle.json"
    fi
}

# account EMAIL WHAT-FOR
account() {
    exists gcloud iam service-accounts describe "$1" ||
        run gcloud iam service-accounts create "${1%%@*}" "--display-name=$2"
}

step_accounts() {
    account "$PREPROCESS_ACCOUNT" "Darkroom: preprocess-service"
    account "$CLASSIFY_ACCOUNT" "Darkroom: classify-service"
    account "$PUSH_ACCOUNT" "Darkroom: Pub/Sub's pushes to classify-service"
}

# The dead letters' topic has a subscription of its own: without one they would be lost.
step_topics() {
    local topic
    for topic in "$PREP_TOPIC" "$CLASS_TOPIC" "$DEAD_TOPIC"; do
        exists gcloud pubsub topics describe "$topic" || run gcloud pubsub topics create "$topic"
    done
    exists gcloud pubsub subscriptions describe "$DEAD_SUBSCRIPTION" ||
        run gcloud pubsub subscriptions create "$DEAD_SUBSCRIPTION" "--topic=$DEAD_TOPIC" \
            --message-retention-duration=7d --ack-deadline=60 --expiration-period=never
}

# The push subscription as it should be; also as flags, below. 100 attempts, up to 10 minutes apart: an outage of half
# a day buries no event (10 would, after some 40 minutes).
subscription_wanted() {
    jq -nS --arg url "$CLASSIFY_URL" --arg account "$PUSH_ACCOUNT" \
        --arg dead "projects/$PROJECT_ID/topics/$DEAD_TOPIC" '{
            endpoint: ($url + "/pubsub"), account: $account, audience: $url, dead: $dead, attempts: 100,
            deadline: 60, backoff: ["10s", "600s"], expires: false}'
}

subscription_is() {
    jq -S '{
            endpoint: .pushConfig.pushEndpoint, account: .pushConfig.oidcToken.serviceAccountEmail,
            audience: .pushConfig.oidcToken.audience, dead: .deadLetterPolicy.deadLetterTopic,
            attempts: .deadLetterPolicy.maxDeliveryAttempts, deadline: .ackDeadlineSeconds,
            backoff: [.retryPolicy.minimumBackoff, .retryPolicy.maximumBackoff],
            expires: (.expirationPolicy.ttl != null)}'
}

step_subscription() {
    local is wanted flags=(
        "--push-endpoint=$CLASSIFY_URL/pubsub" "--push-auth-service-account=$PUSH_ACCOUNT"
        "--push-auth-token-audience=$CLASSIFY_URL"
        "--dead-letter-topic=$DEAD_TOPIC" --max-delivery-attempts=100
        --min-retry-delay=10s --max-retry-delay=600s --ack-deadline=60)

    wanted=$(subscription_wanted)
    if ! is=$(look gcloud pubsub subscriptions describe "$SUBSCRIPTION" --format=json); then
        run gcloud pubsub subscriptions create "$SUBSCRIPTION" "--topic=$PREP_TOPIC" --expiration-period=never "${flags[@]}"
        return
    fi
    is=$(subscription_is <<<"$is")
    if [[ $is != "$wanted" ]]; then
        if jq -e .expires <<<"$is" >/dev/null; then flags+=(--expiration-period=never); fi
        run gcloud pubsub subscriptions update "$SUBSCRIPTION" "${flags[@]}"
    fi
}

# Least roles. objectUser, since over an object that is there GCS also asks for the right to delete, and the
# same upload twice is the same object.
step_access() {
    local agent=serviceAccount:service-$PROJECT_NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com
    local preprocess=serviceAccount:$PREPROCESS_ACCOUNT classify=serviceAccount:$CLASSIFY_ACCOUNT

    grant_bucket roles/storage.objectUser "$preprocess"
    grant_bucket roles/storage.objectUser "$classify"
    grant_topic roles/pubsub.publisher "$preprocess" "$PREP_TOPIC"
    grant_topic roles/pubsub.publisher "$classify" "$CLASS_TOPIC"
    # Pub/Sub itself: it makes the pushes' tokens, and moves dead letters
    GROUP_WORDS=2 policy_has roles/iam.serviceAccountTokenCreator "$agent" iam service-accounts "$PUSH_ACCOUNT" ||
        run gcloud beta services identity create --service=pubsub.googleapis.com
    grant_account roles/iam.serviceAccountTokenCreator "$agent" "$PUSH_ACCOUNT"
    grant_topic roles/pubsub.publisher "$agent" "$DEAD_TOPIC"
    grant_subscription roles/pubsub.subscriber "$agent" "$SUBSCRIPTION"
}

# service NAME IMAGE-VARIABLE: replaced when its YAML is another one than at the last run (its hash is a
# label of the service), or when it is asked to have another image than it has.
service() {
    local name=$1 variable=$2 current spec image file=$scratch/$1.yaml
    current=$(look gcloud run services describe "$name" "--region=$REGION" --format=json) || current='{}'
    image=$(jq -r '.spec.template.spec.containers[0].image // empty' <<<"$current")
    spec=$(IMAGE='' SPEC='' envsubst "$PLACEHOLDERS" <"$here/$name.yaml" | sha256sum | cut -c 1-40)
    if [[ $(jq -r '.metadata.labels["darkroom-spec"] // empty' <<<"$current") == "$spec" &&
        ${!variable:-$image} == "$image" ]]; then
        return
    fi
    image=${!variable:-${image:-$REGISTRY/$name:latest}}
    IMAGE=$image SPEC=$spec envsubst "$PLACEHOLDERS" <"$here/$name.yaml" >"$file"
    if ((DRY_RUN)); then
        say "# $file:"
        sed 's/^/#   /' "$file" >&2
    fi
    run gcloud run services replace "$file" "--region=$REGION"
}

step_services() {
    service classify-service CLASSIFY_IMAGE
    service preprocess-service PREPROCESS_IMAGE
}

step_callers() {
    local name
    grant_service roles/run.invoker "serviceAccount:$PUSH_ACCOUNT" classify-service
    if [[ ${PUBLIC:-0} == 1 ]]; then
        for name in preprocess-service classify-service; do
            grant_service roles/run.invoker allUsers "$name"
        done
    fi
}

# Workload identity federation: a run of the repository's main branch acts as the deploy account, without a key.
step_github() {
    local deploy=serviceAccount:$DEPLOY_ACCOUNT name
    # shellcheck disable=SC2153 # POOL is from common.sh
    local pool=projects/$PROJECT_NUMBER/locations/global/workloadIdentityPools/$POOL
    [[ -n ${GITHUB_REPOSITORY:-} ]] || return 0
    account "$DEPLOY_ACCOUNT" "Darkroom: deployments from $GITHUB_REPOSITORY"
    exists gcloud iam workload-identity-pools describe "$POOL" --location=global ||
        run gcloud iam workload-identity-pools create "$POOL" --location=global '--display-name=Darkroom: GitHub'
    exists gcloud iam workload-identity-pools providers describe github --location=global \
        "--workload-identity-pool=$POOL" ||
        run gcloud iam workload-identity-pools providers create-oidc github --location=global \
            "--workload-identity-pool=$POOL" --issuer-uri=https://token.actions.githubusercontent.com \
            --attribute-mapping=google.subject=assertion.sub,attribute.repository=assertion.repository \
            "--attribute-condition=assertion.repository == '$GITHUB_REPOSITORY' && assertion.ref == 'refs/heads/main'"
    grant_account roles/iam.workloadIdentityUser \
        "principalSet://iam.googleapis.com/$pool/attribute.repository/$GITHUB_REPOSITORY" "$DEPLOY_ACCOUNT"
    grant_registry roles/artifactregistry.writer "$deploy"
    for name in preprocess-service classify-service; do
        grant_service roles/run.developer "$deploy" "$name"
        grant_service roles/run.invoker "$deploy" "$name" # the smoke test's
    done
    for name in "$PREPROCESS_ACCOUNT" "$CLASSIFY_ACCOUNT"; do
        grant_account roles/iam.serviceAccountUser "$deploy" "$name"
    done
    say "# repository variables for the workflow: PROJECT_ID=$PROJECT_ID REGION=$REGION REPO=$REPO" \
        "WORKLOAD_IDENTITY_PROVIDER=$pool/providers/github DEPLOY_SERVICE_ACCOUNT=$DEPLOY_ACCOUNT"
}

# --- main -----------------------------------------------------------------------------------------

only=${STEPS[*]}
while (($#)); do
    case $1 in
    --dry-run) DRY_RUN=1 ;;
    --only)
        [[ -n ${2:-} ]] || die "--only wants steps: ${STEPS[*]}"
        only=${2//,/ }
        shift
        ;;
    -h | --help)
        usage
        exit
        ;;
    *) die "unknown argument: $1 (see --help)" ;;
    esac
    shift
done
for step in $only; do
    [[ " ${STEPS[*]} " == *" $step "* ]] || die "no step $step; there are: ${STEPS[*]}"
done

settings
[[ ${RETENTION_DAYS:-0} =~ ^(0|[1-9][0-9]{0,4})$ ]] || die "RETENTION_DAYS: not a number of days"
case ${HTTP2:-1} in
1) PROTOCOL=h2c ;;
0) PROTOCOL=http1 ;;
*) die "HTTP2: neither 0 nor 1" ;;
esac
[[ ${GITHUB_REPOSITORY:-a/b} =~ ^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$ ]] || die "GITHUB_REPOSITORY: not owner/name"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ((DRY_RUN)); then
    PROJECT_NUMBER=${PROJECT_NUMBER:-PROJECT_NUMBER}
    say "+ export CLOUDSDK_CORE_PROJECT=$PROJECT_ID CLOUDSDK_CORE_DISABLE_PROMPTS=1"
else
    PROJECT_NUMBER=${PROJECT_NUMBER:-$(gcloud projects describe "$PROJECT_ID" '--format=value(projectNumber)')}
fi
REGISTRY=$REGION-docker.pkg.dev/$PROJECT_ID/$REPO
MAX_INSTANCES=${MAX_INSTANCES:-10}
CLASSIFY_URL=${CLASSIFY_URL:-https://classify-service-$PROJECT_NUMBER.$REGION.run.app}
export PROJECT_ID BUCKET PREP_TOPIC CLASS_TOPIC PUSH_ACCOUNT PREPROCESS_ACCOUNT CLASSIFY_ACCOUNT CLASSIFY_URL MAX_INSTANCES PROTOCOL
# shellcheck disable=SC2016 # names, for envsubst
PLACEHOLDERS='$IMAGE $SPEC $PROJECT_ID $BUCKET $PREP_TOPIC $CLASS_TOPIC $PREPROCESS_ACCOUNT
    $CLASSIFY_ACCOUNT $CLASSIFY_URL $MAX_INSTANCES $PROTOCOL'

for step in "${STEPS[@]}"; do
    [[ " $only " != *" $step "* ]] || "step_$step"
done
