#!/usr/bin/env bash
# Names the libraries that are missing and their Debian packages, before the compiler stumbles over them.
#
#   check_libraries.sh [CC]
set -euo pipefail

# pkg-config's condition, and Debian's package
needed=(
    "libmicrohttpd:libmicrohttpd-dev" "libnghttp2:libnghttp2-dev" "libprotobuf-c:libprotobuf-c-dev" "jansson:libjansson-dev" "libjpeg:libjpeg-dev" "lcms2:liblcms2-dev"
    "libcurl:libcurl4-openssl-dev" "openssl:libssl-dev" "sqlite3:libsqlite3-dev" "expat:libexpat1-dev"
    "zlib:zlib1g-dev"
    "libpq:libpq-dev" "libseccomp:libseccomp-dev" "libsodium:libsodium-dev" "librabbitmq:librabbitmq-dev" "vips >= 8.13:libvips-dev" "cairo:libcairo2-dev"
    "libonnxruntime:no package: infra/setup/install.sh fetches it"
)
missing=()

command -v pkg-config >/dev/null || missing+=("pkg-config (pkg-config)")
if ((${#missing[@]} == 0)) && ! pkg-config --exists "${needed[@]%%:*}"; then
    for entry in "${needed[@]}"; do
        pkg-config --exists "${entry%%:*}" || missing+=("${entry%%:*} (${entry#*:})")
    done
fi
command -v protoc >/dev/null || missing+=("protoc (protobuf-compiler)")
command -v protoc-gen-c >/dev/null || missing+=("protoc-gen-c (protobuf-c-compiler)")
# libs3 has no pkg-config file; gcc prints the path of a library that it finds, else the name
[[ $("${1:-gcc}" -print-file-name=libs3.a 2>/dev/null) == /* ]] || missing+=("libs3 (libs3-dev)")

if ((${#missing[@]})); then
    echo "These libraries are missing (Debian's package):" >&2
    printf '  %s\n' "${missing[@]}" >&2
    echo "On Debian: sudo make deps" >&2
    exit 1
fi
