#!/usr/bin/env bash
# `make lint`: warnings are errors, the format is clang-format's, and the checkers that find bugs find none.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

mapfile -t sources < <(git ls-files '*.c')
mapfile -t headers < <(git ls-files '*.h')
mapfile -t scripts < <(git ls-files '*.sh' .ci/run .githooks/pre-commit)
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
    flags=$(pkg-config --cflags libmicrohttpd libnghttp2 libprotobuf-c jansson vips cairo libcurl openssl sqlite3 libpq libonnxruntime |
        sed 's/-I/-isystem /g')
    # shellcheck disable=SC2086
    printf '%s\n' "${sources[@]}" | grep -v '^tests/' | xargs -P "$(nproc)" -n 4 sh -c \
        'clang-tidy --quiet --warnings-as-errors="*" "$@" -- '"$(printf '%s ' $flags)"' \
            -std=c17 -D_GNU_SOURCE -DDARKROOM_VERSION=\"lint\" -Icommon -isystem build/proto' tidy
}

# gcc -fanalyzer over our code (about a minute on 2 cores); what tests/analyzer.supp lists is known. Its shift check
# takes a vector's elements for 2 bits wide.
analyze() {
    local flags found
    flags=$(pkg-config --cflags libmicrohttpd libnghttp2 libprotobuf-c jansson libjpeg vips cairo libcurl openssl sqlite3 libpq expat libonnxruntime |
        sed 's/-I/-isystem /g')
    # shellcheck disable=SC2086,SC2016
    printf '%s\n' "${sources[@]}" | grep -v '^tests/' | LC_ALL=C xargs -P "$(nproc)" -n 1 sh -c \
        'out=$('"${CC:-gcc}"' -fanalyzer -Wno-analyzer-shift-count-overflow -fdiagnostics-plain-output -O1 -std=c17 \
            -pthread -D_GNU_SOURCE -DDARKROOM_VERSION=\"lint\" -Icommon -isystem build/proto '"$(printf '%s ' $flags)"' \
            -c -o /dev/null "$1" 2>&1) || { echo "$out"; exit 1; }
        printf "%s\n" "$out"' analyze >build/analyzer.log || { cat build/analyzer.log; return 1; }
    # "file: In function 'name':" comes before a function's warnings
    found=$(sed -nE "s/^(.*: )?In function '([^']+)'[:,]$/F - \2/p; s/^([^ :]+):[0-9:]+ warning: .*\[-Wanalyzer-(.*)\]$/W \1 \2/p" \
        build/analyzer.log | awk '$1 == "F" { name = $3 } $1 == "W" { print $2, name, $3 }' | sort -u |
        grep -vxFf <(grep -v '^#' tests/analyzer.supp | grep .)) || return 0
    cat build/analyzer.log
    echo "not in tests/analyzer.supp:"
    echo "$found"
    return 1
}

# buf, which is on npm only, is installed once on a machine and kept outside the project.
protos() {
    local version=1.75.0 folder
    folder=${XDG_CACHE_HOME:-$HOME/.cache}/darkroom/buf-$version
    if ! [[ -x $folder/node_modules/.bin/buf ]]; then
        npm install --prefix "$folder" --no-audit --no-fund --loglevel=error "@bufbuild/buf@$version" >build/buf.log 2>&1 || {
            echo "SKIP  buf: NO PROTO WAS CHECKED, npm cannot install it: $(tail -n 1 build/buf.log)"
            return
        }
    fi
    check buf env -C common/grpc/proto "$folder/node_modules/.bin/buf" lint
}

mkdir -p build
# .ci/run keeps what is built here
check "warnings are errors" make -s -j"$(nproc)" WERROR=1 BUILD="${LINT_BUILD:-build/lint}" all unit-binaries bench-programs
check clang-format clang-format --dry-run --Werror "${sources[@]}" "${headers[@]}"
check clang-tidy tidy
# what cppcheck does not see: CLEANUP's destructors, and structs that a caller of ours fills in; the sanitizers do
check cppcheck cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 \
    --enable=warning,performance,portability --suppress=missingIncludeSystem \
    --suppress=normalCheckLevelMaxBranches --suppress=memleak --suppress=resourceLeak \
    --suppress=uninitvar --suppress=legacyUninitvar --suppress=autoVariables -D_GNU_SOURCE -Icommon -j "$(nproc)" "${sources[@]}"
check "gcc -fanalyzer" analyze
protos
check shellcheck shellcheck "${scripts[@]}"
check "python compiles" /usr/bin/python3 -m compileall -q -f classify_service infra tests

[ ${#failed[@]} -eq 0 ] || { echo "lint failed: ${failed[*]}"; exit 1; }
