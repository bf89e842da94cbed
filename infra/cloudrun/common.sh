# shellcheck shell=bash
# What deploy.sh and remove.sh share: the names of everything, and how gcloud is called.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "${0##*/}: $*"
    exit 1
}

# The comment at the top of the script.
usage() {
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"
}

settings() {
    local name
    for name in PROJECT_ID REGION REPO BUCKET; do
        [[ -n ${!name:-} ]] || die "set $name (see --help)"
    done
    export CLOUDSDK_CORE_PROJECT=$PROJECT_ID CLOUDSDK_CORE_DISABLE_PROMPTS=1
    # shellcheck disable=SC2034 # used by the scripts that include this
    {
        PREP_TOPIC=${PREP_TOPIC:-img-preprocessed}
        CLASS_TOPIC=${CLASS_TOPIC:-img-classified}
        DEAD_TOPIC=$PREP_TOPIC-dead
        SUBSCRIPTION=$PREP_TOPIC-push
        DEAD_SUBSCRIPTION=$DEAD_TOPIC-pull
        PREPROCESS_ACCOUNT=darkroom-preprocess@$PROJECT_ID.iam.gserviceaccount.com
        CLASSIFY_ACCOUNT=darkroom-classify@$PROJECT_ID.iam.gserviceaccount.com
        PUSH_ACCOUNT=darkroom-push@$PROJECT_ID.iam.gserviceaccount.com
        DEPLOY_ACCOUNT=darkroom-deploy@$PROJECT_ID.iam.gserviceaccount.com
        POOL=darkroom-github
    }
}

# run COMMAND…: what changes something. Printed; run unless --dry-run was given.
run() {
    local line
    printf -v line '%q ' "$@"
    say "+ ${line% }"
    ((DRY_RUN)) || "$@" >/dev/null
}

# look COMMAND…: prints what it prints. False when there is no such thing, which in a dry run nothing is.
look() {
    local errors status=0
    if ((DRY_RUN)); then return 1; fi
    errors=$(mktemp)
    "$@" 2>"$errors" || status=$?
    if ((status)) && ! grep -qiE 'not[ _]found|cannot find|does not exist' "$errors"; then
        cat "$errors" >&2
        rm -f "$errors"
        say "failed: $*"
        kill -TERM $$ # also out of a $(…)
    fi
    rm -f "$errors"
    return "$status"
}

exists() { look "$@" >/dev/null; }

# policy_has ROLE MEMBER GROUP…: does the resource's IAM policy grant it? Like grant.
policy_has() {
    local role=$1 member=$2 policy
    shift 2
    policy=$(look gcloud "${@:1:GROUP_WORDS}" get-iam-policy "${@:GROUP_WORDS+1}" --format=json) || return 1
    jq -e --arg role "$role" --arg member "$member" \
        'any(.bindings[]?; .role == $role and any(.members[]; . == $member))' <<<"$policy" >/dev/null
}
