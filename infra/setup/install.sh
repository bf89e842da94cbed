#!/bin/bash
# Installs what Darkroom needs on Debian 12 or 13; returns at once when all of it is there.
# Other systems with apt get the same packages, which is not tested; the rest is sent to the containers.
#
#   install.sh [run|check|test|lint|fuzz]
#
#   run    (default) build both services and convert the model
#   check  run, and the library of the unit tests
#   test   run, and what the unit and integration tests use
#   lint   test, and the formatters and static analysers
#   fuzz   test, and the compiler with libFuzzer
#
# As root, or as a user with sudo. Downloads are kept in ${XDG_CACHE_HOME:-~/.cache}/darkroom.
set -eEuo pipefail
trap 'say "this failed: $BASH_COMMAND"' ERR

RUN_PACKAGES=(
    gcc libc6-dev make pkg-config
    libmicrohttpd-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libjansson-dev
    libcurl4-openssl-dev libssl-dev libsqlite3-dev libpq-dev libs3-dev libexpat1-dev
    zlib1g-dev libvips-dev libcairo2-dev fonts-dejavu-core libjpeg-dev liblcms2-dev libseccomp-dev libsodium-dev
    librabbitmq-dev
    python3 python3-pip python3-onnx python3-flatbuffers python3-numpy
    ca-certificates curl jq
)
CHECK_PACKAGES=(libcmocka-dev)
TEST_PACKAGES=(
    "${CHECK_PACKAGES[@]}"
    python3-pytest python3-pytest-timeout python3-pytest-xdist python3-requests python3-pil python3-yaml
    libvips-tools imagemagick libtiff-tools libavif-bin openssl iproute2 procps util-linux strace gettext-base
    iptables libfaketime nghttp2-client python3-grpcio python3-protobuf python3-pika
    # storage servers for the tests and a client to check on them with: plain Python modules. Swift's
    # and memcached's server packages would start daemons and keep them; the tests need none of those.
    python3-swift python3-boto3 python3-cryptography
    # the tests start a server of their own (tests/servers/postgres.sh)
    postgresql
)
# For the tests of the page, with what it depends on half a gigabyte. Where it has another name, they are skipped.
BROWSER_PACKAGE=chromium-headless-shell
# Installed, these start daemons and keep them: the tests run the programs from the cache.
UNPACKED_PACKAGES=(haproxy prometheus rabbitmq-server)
LINT_PACKAGES=(clang-format clang-tidy cppcheck shellcheck valgrind)
FUZZ_PACKAGES=(clang libclang-rt-dev)

# Debian 12's libheif has its codecs built in; Debian 13 ships them as plugins:
# AVIF in (dav1d), AVIF out (aomenc), HEIC in (libde265).
DEBIAN_13_PACKAGES=(
    libheif-plugin-dav1d libheif-plugin-aomenc libheif-plugin-libde265
)

# Debian 12 has no ONNX Runtime. Debian 13's registers its operators twice when it is loaded: that
# costs 20 ms of every start and prints 567 lines. So both get the library of the Python wheel, and the
# header of Debian 13's libonnxruntime-dev. (A header older than the library is fine: the C API only grows.)
# Releases from 1.21.1 to 1.24.4 compute some int8 layers wrongly on processors with AMX. Later ones than
# 1.25.1 are larger and no faster.
ONNXRUNTIME_VERSION=1.25.1
declare -A ONNXRUNTIME_SHA256=( # of the wheels, by uname -m
    [x86_64]=79162f873cdfa38cfc8d53d59a8dc7a71a14074df3d565b2f8ce24289545ddc0
    [aarch64]=fa7d4daa78a18b8f3b410e31e82dab8580363c85cac644179a853f2748618e89
)
ONNXRUNTIME_HEADER_RELEASE=trixie
PREFIX=/usr/local
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/darkroom

say() { printf 'install.sh: %s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

usage() {
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"
}

# --- the system -------------------------------------------------------------------------------

# Prints 12 or 13; "other" on another system with apt; nothing elsewhere.
debian_release() {
    local ID="" VERSION_ID=""
    # shellcheck source=/dev/null
    if [[ -r /etc/os-release ]]; then . /etc/os-release; fi
    if [[ $ID == debian && ($VERSION_ID == 12 || $VERSION_ID == 13) ]]; then
        echo "$VERSION_ID"
    elif command -v apt-get >/dev/null; then
        echo other
    fi
}

explain_containers() {
    cat >&2 <<END
install.sh knows Debian 12 and 13, and this system has no apt. Build the container images instead:

  docker compose -f minio-compose.yml up --build

Or install the equivalents of these Debian packages, and ONNX Runtime $ONNXRUNTIME_VERSION or later with its
C header and a pkg-config file called libonnxruntime:

$(printf '%s ' "$@" | fold -s -w 90 | sed 's/^/  /')
END
    exit 1
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this takes root, and there is no sudo: run this as root:  make deps"
    fi
}

# --- Debian packages --------------------------------------------------------------------------

# Prints those of "$@" that are not installed, one per line.
missing_packages() {
    local -A installed=()
    local status package listing
    # It fails when it does not know one of the packages: then that one is missing.
    listing=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null) || true
    while read -r status package; do
        if [[ $status == ii ]]; then installed[$package]=1; fi
    done <<<"$listing"
    for package in "$@"; do
        if [[ -z ${installed[$package]:-} ]]; then echo "$package"; fi
    done
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@"
}

# The package lists are refreshed once, and only if something is missing. A failing source of the
# user's need not stop us: apt says so, and the lists may well do.
refresh_lists() {
    if [[ -z ${LISTS_REFRESHED:-} ]]; then
        apt_get update || say "apt-get update failed: going on with the package lists there are"
        LISTS_REFRESHED=1
    fi
}

apt_install() {
    say "installing: $*"
    refresh_lists
    apt_get --no-install-recommends install "$@" ||
        die "apt-get could not install the packages; its errors are above. Can it reach the mirror in /etc/apt?"
}

install_browser() {
    [[ -n $(missing_packages "$BROWSER_PACKAGE") ]] || return 0
    say "installing: $BROWSER_PACKAGE"
    (refresh_lists && apt_get --no-install-recommends install "$BROWSER_PACKAGE") ||
        say "apt-get could not install $BROWSER_PACKAGE: THE PAGE WILL NOT BE TESTED"
}

# Into $CACHE/tools, with what haproxy and rabbitmq-server need and this system lacks: libraries, Erlang.
unpack_tools() {
    local folder=$CACHE/tools scratch
    [[ $(cat "$folder/complete" 2>/dev/null) != "${UNPACKED_PACKAGES[*]}" ]] || return 0
    say "unpacking for the tests: ${UNPACKED_PACKAGES[*]}"
    mkdir -p "$folder"
    scratch=$(mktemp -d)
    chmod 755 "$scratch"
    mkdir -p "$scratch/partial" "$scratch/download"
    as_root chown _apt "$scratch/partial" "$scratch/download"
    # shellcheck disable=SC2015 # one message for whatever fails
    refresh_lists && apt_get --no-install-recommends -o Dir::Cache::archives="$scratch" --download-only install haproxy rabbitmq-server &&
        (cd "$scratch/download" && apt_get download "${UNPACKED_PACKAGES[@]}") &&
        find "$scratch" -name '*.deb' -print0 | xargs -0 -I{} dpkg-deb --extract {} "$folder" && echo "${UNPACKED_PACKAGES[*]}" >"$folder/complete" ||
        say "apt-get could not fetch ${UNPACKED_PACKAGES[*]}: GATEWAY, ALERTS AND RABBITMQ WILL NOT BE TESTED"
    as_root rm -rf "$scratch"
}

# Another system than Debian 12 and 13: stops when its archives lack one of the packages.
try_other_system() {
    local lacking
    say "this is not Debian 12 or 13: trying the same packages, which is not tested"
    refresh_lists
    # apt-cache prints nothing about a package that it does not know
    lacking=$(printf '%s\n' "$@" | grep -vxFf <(LC_ALL=C apt-cache policy "$@" |
        awk '/^[^ ]/ { name = $1; sub(/:$/, "", name) } /Candidate:/ && $2 != "(none)" { print name }')) || return 0
    die "the package archives in /etc/apt do not have these: ${lacking//$'\n'/ }
Install their equivalents, or use the containers: docker compose -f minio-compose.yml up --build"
}

install_packages() { # RELEASE PACKAGE…
    local listing missing
    listing=$(missing_packages "${@:2}")
    if [[ -z $listing ]]; then return; fi
    mapfile -t missing <<<"$listing"
    if [[ $1 == other ]]; then try_other_system "${missing[@]}"; fi
    apt_install "${missing[@]}"
}

# --- ONNX Runtime ----------------------------------------------------------------

# Puts a file into the cache: whole or not at all.
keep() { # FILE NAME
    cp "$1" "$2.partial"
    mv -f "$2.partial" "$2"
}

has_sha256() { # FILE SHA256
    [[ -f $1 ]] && sha256sum --check --status <<<"$2  $1"
}

# Puts the wheel at $1 (in the cache) unless it is there. Its hash is checked by pip, which installs nothing.
fetch_onnxruntime_wheel() { # FILE MACHINE SCRATCH
    local wheel=$1 machine=$2 scratch=$3

    if has_sha256 "$wheel" "${ONNXRUNTIME_SHA256[$machine]}"; then return; fi
    say "fetching ONNX Runtime $ONNXRUNTIME_VERSION, a Python wheel of 18 MB"
    echo "onnxruntime==$ONNXRUNTIME_VERSION --hash=sha256:${ONNXRUNTIME_SHA256[$machine]}" >"$scratch/requirements.txt"
    /usr/bin/python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --retries 2 \
        --no-deps --require-hashes --only-binary=:all: --python-version 3.11 --platform "manylinux_2_28_$machine" \
        --dest "$scratch/wheel" --requirement "$scratch/requirements.txt" ||
        die "pip could not fetch onnxruntime $ONNXRUNTIME_VERSION; its errors are above. PIP_INDEX_URL names another package index."
    keep "$scratch"/wheel/onnxruntime-*.whl "$wheel"
}

# These two print this machine's own Debian sources (same mirror, options and keys) with the
# release replaced by $1, one for each of apt's formats: one-line *.list, and deb822 *.sources.
list_sources_for_release() {
    local release=$1 file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -r $file ]] || continue
        sed -nE "s/^[ \t]*deb[ \t]+(\[[^]]*\][ \t]+)?([^ \t]+)[ \t]+(bookworm|trixie|oldstable|stable)[ \t].*/deb \1\2 $release main/p" "$file"
    done
}

deb822_sources_for_release() {
    local release=$1 file
    for file in /etc/apt/sources.list.d/*.sources; do
        [[ -r $file ]] || continue
        awk -v release="$release" '
            function flush() {
                if (suites ~ /(^|[ \t])(bookworm|trixie|oldstable|stable)([ \t]|$)/ &&
                    types ~ /(^|[ \t])deb([ \t]|$)/ && enabled !~ /^[ \t]*(no|false|0)/)
                    printf "Types: deb\nSuites: %s\nComponents: main\n%s\n", release, rest
                field = types = suites = enabled = rest = ""
            }
            /^#/          { next }
            /^[ \t]*$/    { flush(); next }
            /^[^ \t]+:/   { field = tolower($0); sub(/:.*/, "", field)
                            value = $0; sub(/^[^:]*:/, "", value) }
            /^[ \t]/      { value = $0 }
            field == "types"      { types = types " " value; next }
            field == "suites"     { suites = suites " " value; next }
            field == "enabled"    { enabled = enabled value; next }
            field == "components" { next }
                          { rest = rest $0 "\n" }
            END           { flush() }' "$file"
    done
}

# Puts the header at $1 (in the cache) unless it is there. apt verifies it as it would any
# package, with lists and caches of its own, so that the system does not see the other release.
fetch_onnxruntime_header() { # FILE SCRATCH
    local header=$1 scratch=$2
    local apt=$scratch/apt options

    if [[ -s $header ]]; then return; fi
    say "fetching the C header from Debian $ONNXRUNTIME_HEADER_RELEASE's libonnxruntime-dev"
    mkdir -p "$apt/sources.d" "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/download"
    list_sources_for_release "$ONNXRUNTIME_HEADER_RELEASE" >"$apt/sources.list"
    deb822_sources_for_release "$ONNXRUNTIME_HEADER_RELEASE" >"$apt/sources.d/darkroom.sources"
    if ! grep -q . "$apt/sources.list" "$apt/sources.d/darkroom.sources"; then
        die "/etc/apt names no mirror of Debian to get ONNX Runtime's C header from. Put onnxruntime_c_api.h of
release $ONNXRUNTIME_VERSION or earlier there yourself: $header"
    fi
    options=(
        -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=$apt/sources.d"
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache"
        -o APT::Default-Release= -o Acquire::Languages=none
    )
    apt_get "${options[@]}" update || say "apt-get update failed"
    as_root chown _apt "$apt/download" # apt downloads as this user
    (cd "$apt/download" && apt_get "${options[@]}" download libonnxruntime-dev) ||
        die "apt-get could not fetch libonnxruntime-dev of Debian $ONNXRUNTIME_HEADER_RELEASE; its errors are above"
    dpkg-deb --extract "$apt"/download/libonnxruntime-dev_*.deb "$apt/package"
    keep "$apt/package/usr/include/onnxruntime/onnxruntime_c_api.h" "$header"
}

onnxruntime_pc() {
    cat <<END
prefix=$PREFIX
libdir=\${prefix}/lib
includedir=\${prefix}/include/onnxruntime

Name: onnxruntime
Description: ONNX Runtime, from the Python wheel and Debian 13's header
Version: $ONNXRUNTIME_VERSION
Libs: -L\${libdir} -lonnxruntime
Cflags: -I\${includedir}
END
}

# The .pc file goes in last: where it is, the rest is complete.
install_onnxruntime() {
    local machine scratch wheel header library=libonnxruntime.so.$ONNXRUNTIME_VERSION
    if pkg-config --atleast-version="$ONNXRUNTIME_VERSION" libonnxruntime; then return; fi

    machine=$(uname -m)
    [[ -n ${ONNXRUNTIME_SHA256[$machine]:-} ]] ||
        die "no ONNX Runtime for $machine: install release $ONNXRUNTIME_VERSION or later with a pkg-config file"
    wheel=$CACHE/onnxruntime-$ONNXRUNTIME_VERSION-$machine.whl
    header=$CACHE/onnxruntime_c_api.h
    mkdir -p "$CACHE"
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder of now, not of later
    trap "as_root rm -rf '$scratch'" EXIT
    chmod 755 "$scratch" # for apt's own user

    fetch_onnxruntime_wheel "$wheel" "$machine" "$scratch"
    fetch_onnxruntime_header "$header" "$scratch"
    /usr/bin/python3 -m zipfile -e "$wheel" "$scratch"
    onnxruntime_pc >"$scratch/libonnxruntime.pc"

    # An executable runs with the release it was linked with, and no other: the Makefile links again.
    as_root install -D -m 0644 "$scratch/onnxruntime/capi/$library" "$PREFIX/lib/$library"
    as_root ln -sf "$library" "$PREFIX/lib/libonnxruntime.so.1"
    as_root ln -sf libonnxruntime.so.1 "$PREFIX/lib/libonnxruntime.so"
    as_root install -D -m 0644 "$header" "$PREFIX/include/onnxruntime/onnxruntime_c_api.h"
    as_root ldconfig
    as_root install -D -m 0644 "$scratch/libonnxruntime.pc" "$PREFIX/lib/pkgconfig/libonnxruntime.pc"
    say "installed ONNX Runtime $ONNXRUNTIME_VERSION under $PREFIX"
}

# --- main -------------------------------------------------------------------------------------

main() {
    local level=${1:-run} release packages

    packages=("${RUN_PACKAGES[@]}")
    case $level in
    run) ;;
    check) packages+=("${CHECK_PACKAGES[@]}") ;;
    test) packages+=("${TEST_PACKAGES[@]}") ;;
    lint) packages+=("${TEST_PACKAGES[@]}" "${LINT_PACKAGES[@]}") ;;
    fuzz) packages+=("${TEST_PACKAGES[@]}" "${FUZZ_PACKAGES[@]}") ;;
    -h | --help)
        usage
        return
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac

    release=$(debian_release)
    case $release in
    12) ;;
    13)
        packages+=("${DEBIAN_13_PACKAGES[@]}")
        # the tests make HEIC pictures
        [[ $level == run ]] || packages+=(libheif-plugin-x265)
        ;;
    other) ;;
    *) explain_containers "${packages[@]}" ;;
    esac

    install_packages "$release" "${packages[@]}"
    if [[ $level == test ]]; then
        install_browser
        unpack_tools
    fi
    install_onnxruntime
}

main "$@"
