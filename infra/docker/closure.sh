#!/usr/bin/env bash
# Fills an empty root with a program and all it needs to run, and nothing else: no shell, no package
# manager, no package as a whole.
#
#   closure.sh ROOT PROGRAM…
#
#   - the programs, the shared libraries they are linked to (ldd), and what is opened at run time:
#     ONNX Runtime; libvips, and the modules that it and libheif open for the formats we take; cairo
#     and one font; for preprocess-service libpq; with their libraries
#   - Debian's CA certificates (not those that this machine adds), users, name service, ld.so's cache
#   - for scanners, var/lib/dpkg/status.d: the dpkg entry of every package a file was taken from;
#     and that package's copyright file
set -euo pipefail

root=$1
shift

UID_GID=10001
FONT=/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf # of the pipeline's plot
HEIF_PLUGINS=(dav1d aomenc libde265) # AVIF in, AVIF out, HEIC in
STATIC=(libs3-dev)                   # linked into the programs, which ldd does not show

die() {
    echo "closure.sh: $*" >&2
    exit 1
}

# FILE…: the paths of the libraries it is linked to, directly or not
libraries() {
    local listing
    listing=$(ldd "$@")
    ! grep 'not found' <<<"$listing" || die "libraries are missing"
    grep -oE '(=> |^[[:space:]])/[^ ]+' <<<"$listing" | sed 's/.*[[:space:]]//' | sort -u
}

# ONNX Runtime, cairo, libvips, and what it and libheif load from beside them. Debian 12's libheif has no plugins.
modules() { # PROGRAM…
    local folder plugin
    if [[ " $*" == *preprocess-service* ]]; then
        echo "$(pkg-config --variable=libdir libpq)/libpq.so.5"
    fi
    echo "$(pkg-config --variable=libdir libonnxruntime)/libonnxruntime.so.1"
    echo "$(pkg-config --variable=libdir cairo)/libcairo.so.2"
    folder=$(pkg-config --variable=libdir vips)
    echo "$folder/libvips.so.42"
    for plugin in "$folder"/vips-modules-*/vips-heif.so; do
        [ -e "$plugin" ] || die "no $plugin"
        echo "$plugin"
    done
    for plugin in "${HEIF_PLUGINS[@]}"; do
        plugin=$folder/libheif/plugins/libheif-$plugin.so
        [ -e "$plugin" ] || die "no $plugin"
        echo "$plugin"
    done
}

# PATH: copied to the same place in the root, and what it is a link to as well
copy() {
    local path real
    path=$(realpath -s "$1")
    # /lib is a link to /usr/lib here as there; the name itself may be a link too
    path=$(realpath "$(dirname "$path")")/$(basename "$path")
    real=$(realpath "$path")
    mkdir -p "$root$(dirname "$path")" "$root$(dirname "$real")"
    cp -a "$real" "$root$real"
    [ "$path" = "$real" ] || ln -sf "$(realpath --relative-to "$(dirname "$path")" "$real")" "$root$path"
    echo "$real" >>"$root.files"
}

# The packages of the copied files; a file of none (our programs, ONNX Runtime) is no error.
record_packages() {
    local package
    mkdir -p "$root/var/lib/dpkg/status.d"
    xargs -d '\n' dpkg -S <"$root.files" 2>/dev/null | cut -d: -f1 | sort -u >"$root.packages" || true
    printf '%s\n' ca-certificates base-files "${STATIC[@]}" >>"$root.packages"
    while read -r package; do
        dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
        [ ! -e "/usr/share/doc/$package/copyright" ] ||
            install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
    done <"$root.packages"
}

etc() {
    local etc=$root/etc
    mkdir -p "$etc/ssl/certs"
    find /usr/share/ca-certificates -name '*.crt' | LC_ALL=C sort | xargs cat >"$etc/ssl/certs/ca-certificates.crt"
    install -D -m 644 /usr/lib/os-release "$root/usr/lib/os-release"
    ln -sf ../usr/lib/os-release "$etc/os-release"
    cat >"$etc/passwd" <<END
root:x:0:0:root:/root:/nonexistent
darkroom:x:$UID_GID:$UID_GID:Darkroom:/data:/nonexistent
END
    printf 'root:x:0:\ndarkroom:x:%s:\n' $UID_GID >"$etc/group"
    echo 'hosts: files dns' >"$etc/nsswitch.conf"
    cp -r /etc/ld.so.conf /etc/ld.so.conf.d "$etc"
    # without it fontconfig writes errors into the log; Debian's has aliases and folders that are not there
    install -d "$etc/fonts"
    cat >"$etc/fonts/fonts.conf" <<END
<?xml version="1.0"?>
<fontconfig><dir>/usr/share/fonts</dir><cachedir>/tmp/fontconfig</cachedir></fontconfig>
END
}

mkdir -p "$root/usr/lib" "$root/usr/bin" "$root/usr/sbin"
for link in bin sbin lib lib32 lib64; do
    if [ -L "/$link" ]; then
        mkdir -p "$root/usr/$link"
        ln -s "usr/$link" "$root/$link"
    fi
done
install -d -m 1777 "$root/tmp"

mapfile -t opened < <(modules "$@")
[ ${#opened[@]} -ge $((4 + ${#HEIF_PLUGINS[@]})) ] ||
    die "no ONNX Runtime, no cairo, no libvips or not all of its modules"
mapfile -t files < <(libraries "$@" "${opened[@]}")
for file in "$@" "${opened[@]}" "${files[@]}" "$FONT"; do copy "$file"; done

etc
record_packages
ldconfig -r "$root"
rm -f "$root.files" "$root.packages" "$root/var/cache/ldconfig/aux-cache"
