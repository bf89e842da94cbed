#!/usr/bin/env bash
# Run the tests and end with a summary: tests/run.sh [unit|integration]
#
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
export ASAN_OPTIONS="detect_stack_use_after_return=0:strict_string_checks=1:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"
export LSAN_OPTIONS="suppressions=$here/tests/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}"
# libvips, GLib and ONNX Runtime are not instrumented; what they call is not judged
export TSAN_OPTIONS="ignore_noninstrumented_modules=1:${TSAN_OPTIONS:-}"
# GLib's slices hand memory from thread to thread behind ThreadSanitizer's back
[[ $build != */tsan ]] || export G_SLICE=always-malloc
passed=0 failed=0 skipped=0
failures=()
notes=()

# count FILE…: add up JUnit reports
count() {
    local line
    line=$(/usr/bin/python3 - "$@" <<'PY'
import sys
import xml.etree.ElementTree as ET
total = {"tests": 0, "bad": 0, "skipped": 0}
reasons = set()
storage = set()
for path in sys.argv[1:]:
    for case in ET.parse(path).getroot().iter("testcase"):
        total["tests"] += 1
        total["bad"] += case.find("failure") is not None or case.find("error") is not None
        storage.update(p.get("value") for p in case.iter("property") if p.get("name") == "storage")
        skip = case.find("skipped")
        if skip is not None:
            total["skipped"] += 1
            reasons.add(skip.get("message") or case.get("name"))
print(total["tests"] - total["bad"] - total["skipped"], total["bad"], total["skipped"], "; ".join(sorted(reasons)))
print(", ".join(sorted(storage)))
PY
    ) || return 1
    local p f s why storage
    { read -r p f s why && read -r storage; } <<<"$line"
    [ -z "$storage" ] || notes+=("storage tested on: a directory, $storage")
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [ -z "$why" ] || notes+=("skipped: $why")
}

run_unit() {
    local binary name
    for binary in "$build"/unit/test_*; do
        [[ $binary == *.d || ! -x $binary ]] && continue
        name=$(basename "$binary")
        if timeout 600 env CMOCKA_MESSAGE_OUTPUT=xml CMOCKA_XML_FILE="$reports/$name.xml" \
            "$binary" >"$reports/$name.log" 2>&1; then
            echo "ok    $name"
        else
            echo "FAIL  $name"
            cat "$reports/$name.log"
            [ -s "$reports/$name.xml" ] && grep -A3 '<failure' "$reports/$name.xml"
            failures+=("$name")
        fi
        # a crash leaves no report, and a leak found at exit none that says so
        if ! count "$reports/$name.xml" 2>/dev/null; then
            failed=$((failed + 1))
            failures+=("$name (no report)")
        fi
    done
}

# run_pytest PART ARGUMENT…: one run of pytest, by `as`, with a report of its own
run_pytest() {
    local status=0
    # shellcheck disable=SC2086
    "${as[@]+"${as[@]}"}" /usr/bin/python3 -m pytest -q -ra --timeout=600 -p no:cacheprovider -o junit_family=xunit1 \
        --junitxml="$reports/integration-$1.xml" "${@:2}" ${TESTS:-tests/integration} || status=$?
    [ $status -eq 0 ] || [ $status -eq 5 ] || failures+=("integration, $1") # 5: TESTS has none of these
}

run_integration() {
    # more workers than processors: most tests wait for a service most of the time
    local as=() workers=$(($(nproc) + 1))
    local together=(-n $((workers < 8 ? workers : 8)) --dist loadgroup --without measures_time)
    local user_namespace=(unshare --user --map-root-user --mount)
    if [ "$EUID" -ne 0 ] && "${user_namespace[@]}" true 2>/dev/null; then
        as=("${user_namespace[@]}")
        run_pytest namespaces "${together[@]}" --only namespaces
        as=()
        together+=(--without namespaces)
    fi
    run_pytest together "${together[@]}"
    run_pytest alone --only measures_time
    count "$reports"/integration-*.xml || failed=$((failed + 1))
}

[ "$what" = integration ] || run_unit
[ "$what" = unit ] || run_integration

echo
for note in "${notes[@]+"${notes[@]}"}"; do echo "$note"; done
if [ ${#failures[@]} -gt 0 ]; then
    echo "failed: ${failures[*]}"
    [ "$failed" -gt 0 ] || failed=${#failures[@]} # e.g. a sanitizer's verdict at exit
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
