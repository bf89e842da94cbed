#!/bin/bash
# Installs what Darkroom needs on Debian 12 or 13: nothing is done, quickly, when all of it is there.
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
set -euo pipefail

RUN_PACKAGES=(
    gcc libc6-dev make pkg-config
    libmicrohttpd-dev libjansson-dev libcurl4-openssl-dev libssl-dev libsqlite3-dev libs3-dev libxml2-dev libexpat1-dev
    libvips-dev libjpeg62-turbo-dev liblcms2-dev libseccomp-dev
    python3 python3-onnx python3-flatbuffers python3-numpy
    ca-certificates curl jq
)
CHECK_PACKAGES=(libcmocka-dev)
TEST_PACKAGES=(
    "${CHECK_PACKAGES[@]}"
    python3-pytest python3-pytest-timeout python3-pytest-xdist python3-requests python3-pil python3-yaml
    libvips-tools openssl iproute2 procps util-linux strace gettext-base
    iptables libfaketime
    # storage servers for the tests and a client to check on them with: plain Python modules. Swift's
    # and memcached's server packages would start daemons and keep them; the tests need none of those.
    python3-swift python3-boto3 python3-cryptography
)
LINT_PACKAGES=(clang-format clang-tidy cppcheck shellcheck valgrind)
FUZZ_PACKAGES=(clang libclang-rt-dev)

# Debian 12's libheif has its codecs built in; Debian 13 ships them as plugins:
# AVIF in (dav1d), AVIF out (aomenc), HEIC in (libde265).
DEBIAN_13_PACKAGES=(
    libheif-plugin-dav1d libheif-plugin-aomenc libheif-plugin-libde265
)

# Debian 12 has no ONNX Runtime, and Debian 13's registers its operators twice when it is loaded:
# that costs 20 ms of every start and prints 567 lines to stderr. So on both releases the library
# comes from the npm package onnxruntime-node, and the header from Debian 13's libonnxruntime-dev (an
# older header than the library is fine: its C API is versioned and only grows).
ONNXRUNTIME_VERSION=1.22.0
ONNXRUNTIME_MINIMUM=1.17
declare -A ONNXRUNTIME_SHA256=(
    [x64]=08cf3bf4218f0e816c2a534e960d85221274cb319569bdf1136b29da7065b015
    [arm64]=0afd69a0ae38c5099fd0e8604dda398ac43dee67cd9c6394b5142b19e82528de
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

# Prints 12 or 13; nothing on any other system.
debian_release() {
    local ID="" VERSION_ID=""
    # shellcheck source=/dev/null
    if [[ -r /etc/os-release ]]; then . /etc/os-release; fi
    if [[ $ID == debian && ($VERSION_ID == 12 || $VERSION_ID == 13) ]]; then echo "$VERSION_ID"; fi
}

explain_other_system() {
    cat >&2 <<END
install.sh knows Debian 12 and 13 only. On this system, either build the container images
(classify_service/Dockerfile, preprocess_service/Dockerfile), or install the equivalents of
these Debian packages, and ONNX Runtime $ONNXRUNTIME_MINIMUM or later with its C header and a
pkg-config file called libonnxruntime:

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
        die "not root and no sudo: run this as root:  $(printf '%q ' "$@")"
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
apt_install() {
    say "installing: $*"
    if [[ -z ${LISTS_REFRESHED:-} ]]; then
        apt_get update || say "apt-get update failed: going on with the package lists there are"
        LISTS_REFRESHED=1
    fi
    apt_get --no-install-recommends install "$@"
}

install_packages() {
    local listing missing
    listing=$(missing_packages "$@")
    if [[ -z $listing ]]; then return; fi
    mapfile -t missing <<<"$listing"
    apt_install "${missing[@]}"
}

# --- ONNX Runtime ----------------------------------------------------------------

has_sha256() { # FILE SHA256
    [[ -f $1 ]] && sha256sum --check --status <<<"$2  $1"
}

# npm's name for this machine's architecture.
npm_architecture() {
    case $(dpkg --print-architecture) in
    amd64) echo x64 ;;
    arm64) echo arm64 ;;
    *) die "no ONNX Runtime library for $(dpkg --print-architecture) in npm: install libonnxruntime-dev (Debian 13)" ;;
    esac
}

# Puts the shared library at $1 (in the cache) unless it is there.
fetch_onnxruntime_library() { # FILE ARCHITECTURE SCRATCH
    local library=$1 arch=$2 scratch=$3
    local package=onnxruntime-node@$ONNXRUNTIME_VERSION
    local member=package/bin/napi-v6/linux/$arch/libonnxruntime.so.1

    if has_sha256 "$library" "${ONNXRUNTIME_SHA256[$arch]}"; then return; fi
    if ! command -v npm >/dev/null; then apt_install npm; fi
    say "fetching the npm package $package (93 MB)"
    (cd "$scratch" && npm pack --silent --ignore-scripts --cache "$scratch/npm" "$package" >/dev/null)
    tar -xzf "$scratch"/onnxruntime-node-*.tgz -C "$scratch" "$member"
    has_sha256 "$scratch/$member" "${ONNXRUNTIME_SHA256[$arch]}" ||
        die "$member in $package has not the expected SHA-256: not installed"
    mv -f "$scratch/$member" "$library"
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
        die "no entry for bookworm or trixie found in /etc/apt: cannot tell which mirror to use"
    fi
    options=(
        -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=$apt/sources.d"
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache"
        -o APT::Default-Release= -o Acquire::Languages=none
    )
    apt_get "${options[@]}" update
    as_root chown _apt "$apt/download" # apt downloads as this user
    (cd "$apt/download" && apt_get "${options[@]}" download libonnxruntime-dev)
    dpkg-deb --extract "$apt"/download/libonnxruntime-dev_*.deb "$apt/package"
    mv -f "$apt/package/usr/include/onnxruntime/onnxruntime_c_api.h" "$header"
}

onnxruntime_pc() {
    cat <<END
prefix=$PREFIX
libdir=\${prefix}/lib
includedir=\${prefix}/include/onnxruntime

Name: onnxruntime
Description: ONNX Runtime, from onnxruntime-node and Debian 13's header
Version: $ONNXRUNTIME_VERSION
Libs: -L\${libdir} -lonnxruntime
Cflags: -I\${includedir}
END
}

# The .pc file goes in last: where it is, the rest is complete.
install_onnxruntime() {
    local arch scratch library header
    if pkg-config --atleast-version="$ONNXRUNTIME_MINIMUM" libonnxruntime; then return; fi

    arch=$(npm_architecture)
    library=$CACHE/libonnxruntime-$ONNXRUNTIME_VERSION-$arch.so
    header=$CACHE/onnxruntime_c_api.h
    mkdir -p "$CACHE"
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder of now, not of later
    trap "as_root rm -rf '$scratch'" EXIT
    chmod 755 "$scratch" # for apt's own user

    fetch_onnxruntime_library "$library" "$arch" "$scratch"
    fetch_onnxruntime_header "$header" "$scratch"
    onnxruntime_pc >"$scratch/libonnxruntime.pc"

    as_root install -D -m 0644 "$library" "$PREFIX/lib/libonnxruntime.so.$ONNXRUNTIME_VERSION"
    as_root ln -sf "libonnxruntime.so.$ONNXRUNTIME_VERSION" "$PREFIX/lib/libonnxruntime.so.1"
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
    *) explain_other_system "${packages[@]}" ;;
    esac

    install_packages "${packages[@]}"
    install_onnxruntime
}

main "$@"
