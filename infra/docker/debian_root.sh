#!/usr/bin/env bash
# Makes a minimal Debian in a folder, with this machine's way to the package registries: Debian mirror, proxy, own CAs.
#
#   debian_root.sh FOLDER RELEASE [PACKAGE,…]     e.g. debian_root.sh /var/tmp/root trixie git,make
#
# Takes root; installs debootstrap when it is missing. debootstrap's packages are kept in the cache.
set -euo pipefail

folder=$1 release=$2 include=${3:-}
debs=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/darkroom/debs-$release
log=$(mktemp)
trap 'rm -f "$log"' EXIT

die() {
    printf 'debian_root.sh: %s\n' "$*" >&2
    exit 1
}

# lines LABEL: this machine's mirrors of Debian ("Debian", "Debian-Security")
mirror() {
    # shellcheck disable=SC2016 # apt's own syntax
    apt-get indextargets --format '$(REPO_URI)' "Identifier: Packages" "Origin: Debian" "Label: $1" | sort -u | head -n 1
}

# apt's proxy, for debootstrap, which only reads the environment
use_proxy() {
    local proxy=
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "$proxy" ] || [ "$proxy" = DIRECT ] || export http_proxy="${http_proxy:-$proxy}"
}

command -v debootstrap >/dev/null || {
    [ -n "$(mirror Debian)" ] || apt-get -q update >&2 || true
    DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 --no-install-recommends install debootstrap >&2
} || die "cannot install debootstrap"
[ -n "$(mirror Debian)" ] || apt-get -q update >&2 || true
debian=$(mirror Debian)
security=$(mirror Debian-Security)
[ -n "$debian" ] || die "no Debian mirror in /etc/apt, or no package lists"

use_proxy
mkdir -p "$debs"
debootstrap --variant=minbase --cache-dir="$debs" ${include:+--include="$include"} "$release" "$folder" "$debian" \
    >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "debootstrap failed"; }
rm -f "$folder"/var/cache/apt/archives/*.deb

{
    echo "deb $debian $release main"
    echo "deb $debian $release-updates main"
    [ -z "$security" ] || echo "deb $security $release-security main"
} >"$folder/etc/apt/sources.list"
apt-config dump Acquire | grep -E '^Acquire::(http|https|Check)' >"$folder/etc/apt/apt.conf.d/90machine" || true
mkdir -p "$folder/usr/local/share/ca-certificates"
find /usr/local/share/ca-certificates -name '*.crt' -exec cp -L -t "$folder/usr/local/share/ca-certificates" {} +
[ ! -x "$folder/usr/sbin/update-ca-certificates" ] || chroot "$folder" update-ca-certificates >"$log" 2>&1 ||
    { cat "$log" >&2; die "update-ca-certificates failed"; }
