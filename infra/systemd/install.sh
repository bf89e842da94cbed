#!/usr/bin/env bash
# Installs both services on a machine with systemd, from what `make all model` made. As root.
#
#   infra/systemd/install.sh [--dry-run] [--uninstall]
#
#   --dry-run    print every command; run none
#   --uninstall  remove the programs and units; objects, outbox and settings stay
#
# Programs go to /usr/local/bin, the model to /usr/local/share/darkroom/models, units to /etc/systemd/system.
# Settings are read from /etc/darkroom/preprocess.env and classify.env (VARIABLE=value lines; neither need
# exist). Objects are in /var/lib/darkroom, the outbox in /var/lib/darkroom-preprocess. DESTDIR puts all files below another root and leaves systemd alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

DRY_RUN=0 UNINSTALL=0
root=${DESTDIR:-}
services=(preprocess classify)
models=(build/models/*.json build/models/*.onnx build/models/*.txt)

run() {
    local line
    printf -v line '%q ' "$@"
    printf '+ %s\n' "${line% }"
    ((DRY_RUN)) || "$@"
}

# what talks to the system that runs, not to the files
system() { [[ -n $root ]] || run "$@"; }

files() {
    local name
    for name in "${services[@]}"; do
        run install -D -s -m 0755 "build/$name-service" "$root/usr/local/bin/$name-service"
        run install -D -m 0644 "infra/systemd/darkroom-$name.service" "$root/etc/systemd/system/darkroom-$name.service"
    done
    for name in "${models[@]}"; do
        run install -D -m 0644 "$name" "$root/usr/local/share/darkroom/models/${name##*/}"
    done
    for name in README.md infra/README.md infra/SETTINGS.md; do
        run install -D -m 0644 "$name" "$root/usr/local/share/doc/darkroom/$name"
    done
    run install -d -m 0750 "$root/etc/darkroom"
}

uninstall() {
    local name
    system systemctl disable --now darkroom-preprocess.service darkroom-classify.service
    for name in "${services[@]}"; do
        run rm -f "$root/usr/local/bin/$name-service" "$root/etc/systemd/system/darkroom-$name.service"
    done
    run rm -rf "$root/usr/local/share/darkroom" "$root/usr/local/share/doc/darkroom"
    system systemctl daemon-reload
}

while (($#)); do
    case $1 in
    --dry-run) DRY_RUN=1 ;;
    --uninstall) UNINSTALL=1 ;;
    -h | --help)
        sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "infra/systemd/${0##*/}"
        exit
        ;;
    *)
        echo "install.sh: unknown argument: $1 (see --help)" >&2
        exit 2
        ;;
    esac
    shift
done
if ((UNINSTALL)); then
    uninstall
    exit
fi
for name in build/preprocess-service build/classify-service "${models[@]}"; do
    [[ -e $name ]] || { echo "install.sh: no $name: run make all model first" >&2; exit 1; }
done
files
system systemctl daemon-reload
system systemctl enable --now darkroom-classify.service darkroom-preprocess.service
