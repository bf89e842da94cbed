#!/usr/bin/env bash
# `make valgrind`: memcheck over the unit tests, and over both services while they handle some requests. About 20 minutes
# on 2 cores. Arguments: names of unit tests (and "integration"); none: all.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

build=$(realpath -m "${DARKROOM_BUILD:-build/release}")
logs=$build/valgrind
mkdir -p "$logs"
rm -f "$logs"/*
failed=()
export G_SLICE=always-malloc G_DEBUG=gc-friendly
memcheck=(valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite
    --errors-for-leak-kinds=definite --suppressions="$PWD/tests/valgrind.supp" --num-callers=25 --fair-sched=yes)

# What does the same thousands of times, or measures time.
declare -A skip=(
    [test_alloc_faults_outbox]="does what test_outbox does"
    [test_alloc_faults_store]="does what test_store_file and test_client do"
)

unit() {
    local name=$1
    if [[ -n ${skip[$name]:-} ]]; then
        echo "skip  $name: ${skip[$name]}"
        return
    fi
    if timeout 900 "${memcheck[@]}" "$build/unit/$name" >"$logs/$name.log" 2>&1; then
        echo "ok    $name"
        return
    fi
    # A test that is too slow here, or that must not find root's rights, stops half-way and frees nothing: then
    # leaks say nothing.
    if grep -q '^\[  FAILED' "$logs/$name.log"; then
        timeout 900 "${memcheck[@]}" --leak-check=no "$build/unit/$name" >"$logs/$name.log" 2>&1
        if ! grep -q '^==' "$logs/$name.log"; then
            echo "ok    $name, but for leaks: $(grep -c '^\[  FAILED  \] test.*$' "$logs/$name.log") lines of failed tests"
            return
        fi
    fi
    echo "FAIL  $name"
    grep '^==' "$logs/$name.log" | head -60
    failed+=("$name")
}

integration() {
    local tests="tests/integration/test_pipeline.py::test_upload_push_result
        tests/integration/test_preprocess.py::test_defaults_are_what_they_are_called
        tests/integration/test_preprocess.py::test_malformed_uploads
        tests/integration/test_classify.py::test_top_k"
    # shellcheck disable=SC2086
    DARKROOM_SLOW=20 DARKROOM_UNDER="${memcheck[*]} --log-file=$logs/service.%p.log" timeout 1500 \
        /usr/bin/python3 -m pytest -q -x --timeout=1200 -p no:cacheprovider \
        ${TESTS:-$tests} >"$logs/integration.log" 2>&1 || { tail -20 "$logs/integration.log"; }
    if grep -l '^==' "$logs"/service.*.log; then
        grep -h '^==' "$logs"/service.*.log | head -80
        failed+=(services)
    else
        echo "ok    services: $(tail -1 "$logs/integration.log")"
    fi
}

for name in "${@:-all}"; do
    case $name in
    all)
        for binary in "$build"/unit/test_*; do [[ $binary == *.d ]] || unit "$(basename "$binary")"; done
        integration
        ;;
    integration) integration ;;
    *) unit "$name" ;;
    esac
done
[ ${#failed[@]} -eq 0 ] || { echo "memcheck found errors: ${failed[*]}"; exit 1; }
