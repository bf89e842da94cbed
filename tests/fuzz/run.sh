#!/usr/bin/env bash
# Fuzz the targets, as many at a time as there are processors: tests/fuzz/run.sh [TARGET...]
#
#   FUZZ_SECONDS   for each target (default 28: some 6 minutes in all on two processors)
#   FUZZ_BUILD     where the binaries are (default build/fuzz)
#
# Begins with what the build made (build/fuzz/seeds) and what earlier runs found (build/fuzz/corpus).
# What crashes, hangs or takes too much memory is kept in build/fuzz/crashes; once it is mended it goes
# into make_corpus.py, what_once_failed, and so the unit tests replay it. A table of what was done is
# the last output.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

build=${FUZZ_BUILD:-build/fuzz}
seconds=${FUZZ_SECONDS:-28}
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(find tests/fuzz -name '*.c' ! -name replay.c -printf '%f\n' | sed 's/\.c$//' | sort)
fi
mkdir -p "$build/crashes" "$build/logs"
crashed=()

export ASAN_OPTIONS="detect_stack_use_after_return=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"
export LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}"
# GLib's slices would hide what is freed from the sanitizer
export G_SLICE=always-malloc

# Input bytes, and MiB that one allocation and the process may take.
limits_of() {
    case $1 in
    image) echo "-max_len=65536 -malloc_limit_mb=160 -rss_limit_mb=1536" ;;
    image_header) echo "-max_len=8192 -malloc_limit_mb=4 -rss_limit_mb=512" ;;
    multipart | notification | inference) echo "-max_len=16384 -malloc_limit_mb=16 -rss_limit_mb=768" ;;
    storage_reply | google_reply | client | xml) echo "-max_len=16384 -malloc_limit_mb=20 -rss_limit_mb=768" ;;
    *) echo "-max_len=8192 -malloc_limit_mb=16 -rss_limit_mb=768" ;;
    esac
}

fuzz() {
    local target=$1 log=$build/logs/$1.log
    mkdir -p "$build/corpus/$target"
    # shellcheck disable=SC2046
    timeout -k 10 $((seconds + 120)) "$build/bin/$target" -max_total_time="$seconds" -timeout=20 \
        $(limits_of "$target") -print_final_stats=1 -artifact_prefix="$build/crashes/$target-" \
        "$build/corpus/$target" "$build/seeds/$target" >"$log" 2>&1
}

# TARGET executions, coverage counters and features that were reached, inputs kept
summary() {
    local log=$build/logs/$1.log
    awk -v target="$1" '
        /^#[0-9]+\t/ { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1)
                       if ($i == "ft:") ft = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
        /^stat::number_of_executed_units/ { n = $2 }
        END { printf "%-16s %12d %8d %8d %s\n", target, n, cov, ft, corp }' "$log"
}

# fuzz TARGET, and what is to be said of it, in one piece
report() {
    if fuzz "$1"; then
        summary "$1"
        return
    fi
    touch "$build/logs/$1.crashed"
    printf '%s\n' "$(
        echo "CRASHED $1: $build/logs/$1.log"
        grep -E -m 12 'does not hold|ERROR:|runtime error|SUMMARY|^ *#[0-9] .*(common|_service|tests)/|Test unit' \
            "$build/logs/$1.log"
    )"
}

rm -f "$build"/logs/*.crashed
export -f limits_of fuzz summary report
export build seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'report {}'
echo
printf '%-16s %12s %8s %8s %s\n' target executions cov features corpus
for target in "${targets[@]}"; do
    summary "$target"
    [ ! -e "$build/logs/$target.crashed" ] || crashed+=("$target")
done
[ ${#crashed[@]} -eq 0 ] || { echo "crashed: ${crashed[*]}"; exit 1; }
