#!/usr/bin/env bash
# Prints the path of a server binary, after building it from source when it is not there yet.
#
#   get.sh [minio|versitygw|fake-gcs-server|h2spec|grpcurl|grpc-interop|ghz]
#                                default: minio; the others are for tests
#
# Only MinIO's sources have the fix for CVE-2025-62506: its last ready-made image is older. The build
# takes minutes, once; the result stays in ${XDG_CACHE_HOME:-~/.cache}/darkroom. Exit status 3: this
# machine cannot build it (no Go, too old a Go, or no Go modules within reach).
set -euo pipefail

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/darkroom
name=${1:-minio}
case $name in
minio)
    package=github.com/minio/minio
    version=RELEASE.2025-10-15T17-29-55Z
    ;;
fake-gcs-server)
    package=github.com/fsouza/fake-gcs-server
    version=v1.56.1
    ;;
versitygw)
    package=github.com/versity/versitygw/cmd/versitygw
    version=v1.8.0
    ;;
h2spec)
    package=github.com/summerwind/h2spec/cmd/h2spec
    version=v2.2.1
    ;;
grpcurl)
    package=github.com/fullstorydev/grpcurl/cmd/grpcurl
    version=v1.9.4
    ;;
grpc-interop)
    package=google.golang.org/grpc/interop/client
    version=v1.85.0
    ;;
ghz)
    package=github.com/bojand/ghz/cmd/ghz
    version=v0.93.0
    ;;
*)
    echo "get.sh: minio, versitygw, fake-gcs-server, h2spec, grpcurl, grpc-interop or ghz, not '$name'" >&2
    exit 2
    ;;
esac
binary=$cache/$name-$version

cannot() {
    echo "get.sh: no $name: $*" >&2
    exit 3
}

# The path of a Go that is new enough, or that fetches one that is: 1.21 was the first that can.
find_go() {
    local go version
    for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-1.*/bin/go; do
        [[ -x $go ]] || continue
        version=$("$go" env GOVERSION 2>/dev/null) || continue
        if [[ $(printf '%s\n' "go1.21" "$version" | sort -V | head -n 1) == go1.21 ]]; then
            echo "$go"
            return
        fi
    done
}

build() {
    local go scratch
    go=$(find_go)
    [[ -n $go ]] || cannot "it needs Go 1.24 or later (Debian 13's golang package will do, Debian 12's will not)"
    scratch=$(mktemp -d "$cache/build.XXXXXX")
    # shellcheck disable=SC2064 # the folder of now, not of later
    trap "rm -rf '$scratch'" EXIT
    echo "get.sh: building $name $version with Go; this takes some minutes, once" >&2
    # GOTOOLCHAIN: a Go that is too old fetches the one that the sources ask for.
    GOTOOLCHAIN=${GOTOOLCHAIN:-auto} GOBIN=$scratch CGO_ENABLED=0 \
        nice "$go" install -trimpath -ldflags '-s -w' "$package@$version" >"$scratch/log" 2>&1 || {
        cat "$scratch/log" >&2
        cannot "go install $package@$version: $(tail -n 1 "$scratch/log" | sed 's/^[ \t]*//')"
    }
    mv -f "$scratch/${package##*/}" "$binary"
}

if [[ ! -x $binary ]]; then
    mkdir -p "$cache"
    # Whoever comes second waits, and finds the work done.
    exec 9>"$binary.lock"
    flock 9
    [[ -x $binary ]] || build
fi
echo "$binary"
