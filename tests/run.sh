#!/usr/bin/env bash
# Run the tests and end with a summary: tests/run.sh [check|unit|integration]
#
#   check            the fast unit tests, the format, and who may include what
#   DARKROOM_BUILD   the binaries' folder (default build/release)
#   TESTS            arguments for pytest instead of tests/integration
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

what=${1:-all}
build=$(realpath -m "${DARKROOM_BUILD:-build/release}") # absolute: tests may change folder
reports=$build/reports
rm -rf "$reports"
mkdir -p "$reports"
here=$PWD
# pytest compiles the tests once, not in each of its workers
unset PYTHONDONTWRITEBYTECODE
export ASAN_OPTIONS="detect_stack_use_after_return=0:strict_string_checks=1:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"
export LSAN_OPTIONS="suppressions=$here/tests/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}"
# libvips, GLib and ONNX Runtime are not instrumented; what they call is not judged
export TSAN_OPTIONS="ignore_noninstrumented_modules=1:${TSAN_OPTIONS:-}"
# GLib's slices hand memory from thread to thread behind ThreadSanitizer's back
[[ $build != */tsan ]] || export G_SLICE=always-malloc
# The tests' folders are in memory where there is much: thousands of files that are written once and synced
if [[ -z ${TMPDIR:-} && $(df --output=avail -m /dev/shm 2>/dev/null | tail -n 1) -ge 4096 &&
    $(awk '/^MemAvailable/ {print $2}' /proc/meminfo) -ge 4194304 ]]; then
    TMPDIR=/dev/shm
fi
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/darkroom-tests-XXXXXX")
export TMPDIR
chmod a+x "$TMPDIR" # some servers run as nobody
trap 'rm -rf "$TMPDIR"' EXIT
passed=0 failed=0 skipped=0
failures=()
notes=()
counted=() # JUnit reports

# seconds of work each: `check` does without them, and the others start with them
slow=(test_alloc_faults_outbox test_image_paths test_image_damage)

# Add up the JUnit reports.
count() {
    local p f s
    # not <(…): a bare root without /proc has no /dev/fd
    /usr/bin/python3 tests/count.py "${counted[@]}" >"$reports/counts" || return 1
    { read -r p f s && mapfile -t -O "${#notes[@]}" notes; } <"$reports/counts" || return 1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# verdict NAME COMMAND…: one line for a test, and what it printed if it failed, in one piece
verdict() {
    local name=$1 status=0
    shift
    "$@" >"$reports/$name.log" 2>&1 || status=$?
    if [ "$status" = 0 ]; then
        echo "ok    $name"
        return
    fi
    touch "$reports/$name.failed"
    printf '%s\n' "$(
        echo "FAIL  $name (status $status)"
        cat "$reports/$name.log"
        [ -s "$reports/$name.xml" ] && grep -A3 '<failure' "$reports/$name.xml"
    )"
}

run_unit_binary() {
    verdict "$1" timeout 600 env CMOCKA_MESSAGE_OUTPUT=xml CMOCKA_XML_FILE="$reports/$1.xml" "$build/unit/$1"
}
export -f verdict run_unit_binary
export build reports

name_unit() {
    local name without=()
    # Pictures are computed in one thread: what starts none has nothing for ThreadSanitizer, and takes minutes there.
    if [[ $build == */tsan && -z ${EVERYTHING:-} ]]; then
        mapfile -t without < <(grep -L pthread tests/unit/image/test_*.c | xargs -n 1 basename -s .c)
    fi
    names=()
    [ "$what" = check ] || names=("${slow[@]}")
    for name in "$build"/unit/test_*; do
        name=$(basename "$name")
        [[ " ${slow[*]} " == *" $name "* ]] || names+=("$name")
    done
    mapfile -t names < <(printf '%s\n' "${names[@]}" | grep -vxFf <(printf '%s\n' "${without[@]+"${without[@]}"}" | grep .))
}

# One more at a time than there are processors: some wait for a clock, a child or a thread.
start_unit() {
    printf '%s\n' "${names[@]}" | xargs -P $(($(nproc) + 1)) -I{} bash -c 'run_unit_binary {}'
}

count_unit() {
    local name
    for name in "${names[@]}"; do
        # a crash leaves no report, and a leak found at exit none that says so
        if [ -s "$reports/$name.xml" ]; then
            counted+=("$reports/$name.xml")
        else
            failed=$((failed + 1))
        fi
    done
}

run_unit() {
    name_unit
    start_unit
    count_unit
}

# one_more NAME COMMAND…: a test without a report
one_more() {
    verdict "$@"
    if [ -e "$reports/$1.failed" ]; then failed=$((failed + 1)); else passed=$((passed + 1)); fi
}

format() {
    find common ./*_service tests -name '*.[ch]' -print0 | xargs -0 -n 40 -P "$(nproc)" clang-format --dry-run --Werror
}

run_check() {
    one_more include_rules /usr/bin/python3 tests/include_rules.py
    if command -v clang-format >/dev/null; then
        one_more format format
    else
        skipped=$((skipped + 1))
        notes+=("not tested, 1: the format: clang-format is not installed")
    fi
}

# run_pytest PART ARGUMENT…: one run of pytest, by `as`, with a report of its own
run_pytest() {
    local status=0
    # shellcheck disable=SC2086
    "${as[@]+"${as[@]}"}" /usr/bin/python3 -m pytest -q -ra --timeout=600 -p no:cacheprovider -o junit_family=xunit1 \
        --junitxml="$reports/integration-$1.xml" "${@:2}" ${TESTS:-tests/integration} || status=$?
    [ $status -eq 0 ] || [ $status -eq 5 ] || failures+=("integration, $1") # 5: TESTS has none of these
}

run_together() {
    # more workers than processors: most tests wait for a service most of the time
    local as=() workers=$(($(nproc) * 3))
    local together=(-n $((workers < 8 ? workers : 8)) --dist loadgroup --without=measures_time)
    local user_namespace=(unshare --user --map-root-user --mount)
    if [ "$EUID" -ne 0 ] && "${user_namespace[@]}" true 2>/dev/null; then
        as=("${user_namespace[@]}")
        run_pytest namespaces "${together[@]}" --only=namespaces
        as=()
        together+=(--without=namespaces)
    fi
    run_pytest together "${together[@]}"
}

run_alone() {
    local as=()
    # only their files: to collect all takes longer than some of these tests
    local TESTS=${TESTS:-$(grep -l measures_time tests/integration/test_*.py)}
    run_pytest idle -n 4 --dist loadgroup --only=idle
    run_pytest alone --only=measures_time --without=idle
    counted+=("$reports"/integration-*.xml)
}

case $what in
check) run_check && run_unit ;;
unit) run_unit ;;
integration)
    run_together
    run_alone
    ;;
all)
    one_more include_rules /usr/bin/python3 tests/include_rules.py
    name_unit
    start_unit >"$reports/unit.log" & # beside tests that wait for a service most of the time
    trap 'kill $! 2>/dev/null; exit 130' INT
    run_together
    wait $!
    cat "$reports/unit.log"
    count_unit
    run_alone
    ;;
*)
    echo "tests/run.sh: '$what' is none of check, unit, integration" >&2
    exit 2
    ;;
esac
count || failed=$((failed + 1))
echo
for mark in "$reports"/*.failed; do
    [ -e "$mark" ] || continue
    failures+=("$(basename "$mark" .failed)")
    # again, at the end: what stands above is far away
    grep -s -A3 '<failure' "${mark%.failed}.xml" || tail -n 5 "${mark%.failed}.log"
done
if [ ${#failures[@]} -gt 0 ]; then
    echo "failed: ${failures[*]}"
    [ "$failed" -gt 0 ] || failed=${#failures[@]} # e.g. a sanitizer's verdict at exit
fi
echo "$passed passed, $failed failed, $skipped skipped"
for note in "${notes[@]+"${notes[@]}"}"; do echo "$note"; done
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
