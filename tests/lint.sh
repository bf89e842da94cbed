#!/usr/bin/env bash
# `make lint`: warnings are errors, the format is clang-format's, and the checkers that find bugs find none.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

mapfile -t sources < <(git ls-files '*.c')
mapfile -t headers < <(git ls-files '*.h')
mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
failed=()

# check NAME COMMAND…
check() {
    local name=$1
    shift
    if "$@" >build/lint.log 2>&1; then
        echo "ok    $name"
    else
        echo "FAIL  $name"
        cat build/lint.log
        failed+=("$name")
    fi
}

tidy() {
    local flags
    flags=$(pkg-config --cflags libmicrohttpd jansson vips libcurl openssl sqlite3 libonnxruntime |
        sed 's/-I/-isystem /g')
    # shellcheck disable=SC2086
    printf '%s\n' "${sources[@]}" | grep -v '^tests/' | xargs -P "$(nproc)" -n 4 sh -c \
        'clang-tidy --quiet --warnings-as-errors="*" "$@" -- '"$(printf '%s ' $flags)"' \
            -std=c17 -D_GNU_SOURCE -DDARKROOM_VERSION=\"lint\" -Icommon' tidy
}

mkdir -p build
check "warnings are errors" make -s -j"$(nproc)" WERROR=1 BUILD=build/lint all unit-binaries bench-programs
check clang-format clang-format --dry-run --Werror "${sources[@]}" "${headers[@]}"
check clang-tidy tidy
# what cppcheck does not see: CLEANUP's destructors, and structs that a caller of ours fills in; the sanitizers do
check cppcheck cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 \
    --enable=warning,performance,portability --suppress=missingIncludeSystem \
    --suppress=normalCheckLevelMaxBranches --suppress=memleak --suppress=resourceLeak \
    --suppress=uninitvar --suppress=legacyUninitvar --suppress=autoVariables -D_GNU_SOURCE -Icommon -j "$(nproc)" "${sources[@]}"
check shellcheck shellcheck "${scripts[@]}"
check "python compiles" /usr/bin/python3 -m compileall -q -f classify_service infra tests

[ ${#failed[@]} -eq 0 ] || { echo "lint failed: ${failed[*]}"; exit 1; }
