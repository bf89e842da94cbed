#!/usr/bin/env bash
# The base images of our Dockerfiles, from the registry where it can be reached; else made on this
# machine under the same names, which takes root and a Debian mirror but no registry.
#
#   base_images.sh IMAGE…        e.g. debian:trixie-slim golang:1.26-trixie
#
# A made image has this machine's way to the package registries: Debian mirror, proxy, own CA.
set -euo pipefail

pull_timeout=${PULL_TIMEOUT:-60}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { printf 'base_images.sh: %s\n' "$*" >&2; }

have() { docker image inspect "$1" >/dev/null 2>&1; }

# NAME=VALUE of the settings by which this machine reaches registries
registry_settings() {
    local name PIP_INDEX_URL=${PIP_INDEX_URL:-$(/usr/bin/python3 -m pip config get global.index-url 2>/dev/null)}
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
        [ -z "${!name:-}" ] || printf '%s=%s\n' "$name" "${!name}"
    done
    ! command -v go >/dev/null || (cd / && for name in GOPROXY GOSUMDB GONOSUMDB GOINSECURE; do
        printf '%s=%s\n' "$name" "$(go env "$name")"
    done)
}

# import NAME FOLDER [INSTRUCTION…]
import() {
    local name=$1 folder=$2 setting changes=()
    shift 2
    while read -r setting; do changes+=(--change "ENV $setting"); done < <(registry_settings)
    for setting in "$@"; do changes+=(--change "$setting"); done
    tar --numeric-owner -C "$folder" -c . | docker import "${changes[@]}" - "$name" >/dev/null
}

# What the published slim images have too: no manual pages, no package files kept.
slim_settings() { # FOLDER
    cat >"$1/etc/dpkg/dpkg.cfg.d/docker" <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
END
    cat >"$1/etc/apt/apt.conf.d/docker" <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Acquire::Languages "none";
END
}

# debian_root FOLDER RELEASE: what debian:RELEASE-slim holds, nearly
debian_root() {
    local folder=$1 release=$2
    bash "$(dirname "$0")/debian_root.sh" "$folder" "$release"
    slim_settings "$folder"
    rm -rf "$folder"/var/lib/apt/lists/* "$folder"/var/cache/apt/*.bin \
        "$folder"/usr/share/{man,locale,info}/* "$folder"/var/log/*.log
    find "$folder/usr/share/doc" ! -type d ! -name copyright -delete
}

# This machine's Go on our Debian; the go command itself fetches a newer one where a module asks for it.
go_image() { # NAME RELEASE
    local context=$scratch/go
    command -v go >/dev/null || { say "no Go here to make $1 of"; return 1; }
    get "debian:$2-slim"
    mkdir -p "$context"
    cp -a "$(cd / && go env GOROOT)/." "$context/go"
    cat >"$context/Dockerfile" <<END
FROM debian:$2-slim
RUN apt-get -q update && apt-get install -y -q --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY go /usr/local/go
ENV GOPATH=/go PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /go
END
    DOCKER_BUILDKIT=0 docker build -q -t "$1" "$context" >"$scratch/log" 2>&1 || { tail -n 20 "$scratch/log" >&2; return 1; }
    rm -rf "$context"
}

make_image() {
    local name=$1 release
    case $name in
    debian:*-slim)
        release=${name#debian:}
        debian_root "$scratch/root" "${release%-slim}"
        import "$name" "$scratch/root" 'CMD ["bash"]'
        rm -rf "$scratch/root"
        ;;
    golang:*) go_image "$name" "${name##*-}" ;;
    *)
        say "do not know how to make $name"
        return 1
        ;;
    esac
}

get() {
    ! have "$1" || return 0
    if timeout "$pull_timeout" docker pull -q "$1" >"$scratch/pull" 2>&1; then
        say "pulled $1"
    else
        say "cannot pull $1 ($(tail -n 1 "$scratch/pull")): making it"
        make_image "$1"
    fi
}

for image in "$@"; do get "$image"; done
