#!/usr/bin/env bash
# The two commands of a new user, on a fresh Debian that has git, make, CA certificates and nothing else: `make run`
# to its transcript, twice, and `make check`. In a clone of HEAD, with no ../shared beside it and with the model's
# public URL out of reach, so that the model comes from the package registry.
#
#   tests/fresh_root.sh [bookworm|trixie]     default: this machine's release
#
# The root takes this machine's way to the registries along. Skipped where there is no root or no debootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "fresh root: $*"; }

skip() {
    say "SKIPPED, NOT TESTED: $*" >&2
    exit 0
}

[ $EUID = 0 ] || skip "it takes root"
command -v apt-get >/dev/null || skip "no apt-get, so no debootstrap"
unshare --mount true 2>/dev/null || skip "this machine allows no mounts"
# Mounts and processes are in namespaces of their own: they go with them.
[ -n "${FRESH_ROOT_INSIDE:-}" ] ||
    exec env FRESH_ROOT_INSIDE=yes unshare --mount --pid --fork --kill-child bash "tests/$(basename "$0")" "$@"

# shellcheck source=/dev/null
release=${1:-$(. /etc/os-release && echo "${VERSION_CODENAME:-}")}
folder=$(mktemp -d /var/tmp/darkroom-fresh-XXXXXX)
root=$folder/root
log=$folder/log

# shellcheck disable=SC2317 # called by the trap
remove() {
    trap - EXIT
    ! mountpoint -q "$root/dev/shm" || umount "$root/dev/shm"
    ! mountpoint -q "$root/proc" || umount -l "$root/proc"
    rm -rf --one-file-system "$folder"
}
trap remove EXIT
trap 'exit 130' INT TERM

fail() {
    tail -n 40 "$log" >&2
    say "FAILED: $*" >&2
    exit 1
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The root has this machine's network, and perhaps a neighbour that runs this too.
free_port() {
    local port=$((20000 + RANDOM % 10000))
    while port_taken "$port"; do port=$((port + 1)); done
    echo "$port"
}

# The settings by which this machine reaches registries; one that names a file is good only where the file is.
network_settings() {
    local setting value
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    [ ! -e /etc/pip.conf ] || cp -L /etc/pip.conf "$root/etc/"
    [ ! -d ~/.config/pip ] || { mkdir -p "$root/root/.config" && cp -rL ~/.config/pip "$root/root/.config/"; }
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    while IFS= read -r setting; do
        value=${setting#*=}
        [[ $value != /* || -e $root$value ]] || continue
        settings+=("$setting")
    done < <(env | grep -E '^(https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY|PIP_[A-Z_]+|SSL_CERT_(FILE|DIR)|CURL_CA_BUNDLE)=')
}

block() { # HOST
    echo "127.0.0.1 $1" >>"$root/etc/hosts"
    # a proxy would find it
    settings+=("no_proxy=${no_proxy:+$no_proxy,}$1" "NO_PROXY=${NO_PROXY:+$NO_PROXY,}$1")
}

# in_root COMMAND…: in the clone. Whoever started this may ignore Ctrl-C; `make run` must not.
in_root() {
    env -i --default-signal=INT "${settings[@]}" HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$root" sh -c 'cd /root/darkroom && exec "$@"' sh "$@"
}

make_root() {
    bash infra/docker/debian_root.sh "$root" "$release" git,make,ca-certificates
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/dev/shm"
    git -c safe.directory='*' clone -q "file://$PWD" "$root/root/darkroom"
    network_settings
    block "$(sed -nE 's,.*"url": *"https://([^/"]+)/.*,\1,p' classify_service/models/mobilenet_v2.json | head -n 1)"
    ports=("PREPROCESS_PORT=$(free_port)" "CLASSIFY_PORT=$(free_port)")
}

# run_to_transcript WHICH: `make run` until it says that Ctrl-C stops it, then Ctrl-C
run_to_transcript() {
    local pid status=0 port began=$EPOCHREALTIME
    : >"$log"
    set -m # a process group of its own, as in a terminal
    in_root make run "${ports[@]}" >"$log" 2>&1 &
    pid=$!
    set +m
    until grep -q 'Ctrl-C stops' "$log"; do
        kill -0 $pid 2>/dev/null || fail "make run ended without a transcript"
        ((${EPOCHREALTIME%.*} - ${began%.*} < 1200)) || fail "make run has no transcript after 20 minutes"
        sleep 0.1
    done
    say "$1 make run: the transcript after $(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $began }") s"
    kill -INT -- -$pid
    wait $pid || status=$?
    ((status == 0 || status == 130)) || fail "make run ended with status $status after Ctrl-C" # make itself dies of it
    for port in "${ports[@]#*=}"; do ! port_taken "$port" || fail "port $port is still taken after Ctrl-C"; done
    grep -qE '^  => .+ \([0-9]+ %, efficientnet_lite0\)$' "$log" ||
        fail "no label in the transcript, or not by efficientnet_lite0"
}

settings=()
began=$SECONDS
make_root || fail "no fresh root"
say "$release after $((SECONDS - began)) s; $(git -c safe.directory='*' log -1 --format='commit %h')"
run_to_transcript first
sed -n '/^Darkroom is running/,/^  =>/p' "$log"
run_to_transcript second
began=$SECONDS
in_root make check >"$log" 2>&1 || fail "make check"
tail -n 5 "$log"
say "make check: $((SECONDS - began)) s"
