#!/usr/bin/env bash
# A Docker engine for machines where none runs.
#
#   engine.sh start    install Debian's docker.io and docker-compose if need be and start dockerd by hand
#   engine.sh stop     stop the engine that `start` started, and undo what it did to the network
#   engine.sh socket   print the DOCKER_HOST to use; nothing if no engine answers
#
# An engine that already answers is used as it is, and never stopped. Ours has a socket, a PID file and
# a data root of its own: images stay in ${XDG_CACHE_HOME:-~/.cache}/darkroom/docker from run to run.
set -euo pipefail

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/darkroom
state=${DARKROOM_DOCKER_STATE:-/run/darkroom-docker}
socket=unix://$state/docker.sock

say() { printf 'engine.sh: %s\n' "$*" >&2; }

answers() { # [DOCKER_HOST]
    timeout 10 env ${1:+DOCKER_HOST="$1"} docker info >/dev/null 2>&1
}

print_socket() {
    if command -v docker >/dev/null; then
        if answers; then
            echo "${DOCKER_HOST:-unix:///var/run/docker.sock}"
        elif answers "$socket"; then
            echo "$socket"
        fi
    fi
}

# Debian's packages start their daemon where they find an init system to ask: not here, not now, and
# not at the next boot.
install_packages() {
    local policy=/usr/sbin/policy-rc.d ours=""
    command -v dockerd >/dev/null && command -v docker-compose >/dev/null && command -v iptables >/dev/null && return
    [ "$(id -u)" = 0 ] || { say "not root: cannot install docker.io"; return 1; }
    command -v apt-get >/dev/null || { say "no apt-get: cannot install docker.io"; return 1; }
    say "installing docker.io and docker-compose"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        ours=yes
    fi
    { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends \
        -o DPkg::Lock::Timeout=300 install docker.io docker-compose iptables; } >"$state/install.log" 2>&1 ||
        { cat "$state/install.log" >&2; false; }
    local failed=$?
    [ -z "$ours" ] || rm -f "$policy"
    ! command -v systemctl >/dev/null || systemctl disable docker.service docker.socket >/dev/null 2>&1 || true
    return $failed
}

# dockerd_with STORAGE_DRIVER: start and wait until it answers
dockerd_with() {
    local pid
    setsid dockerd --host "$socket" --data-root "$cache/docker" --exec-root "$state/exec" \
        --pidfile "$state/dockerd.pid" --storage-driver "$1" --log-level warn \
        >>"$state/dockerd.log" 2>&1 </dev/null &
    pid=$!
    for _ in $(seq 300); do
        ! answers "$socket" || return 0
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.1
    done
    kill "$pid"
    return 1
}

start() {
    local found driver
    found=$(print_socket)
    [ -z "$found" ] || { say "using the engine at $found"; return; }
    [ "$(id -u)" = 0 ] || { say "no engine answers, and starting one takes root"; return 1; }
    mkdir -p "$state" "$cache/docker"
    install_packages
    [ -e "$state/iptables" ] || iptables-save >"$state/iptables" 2>/dev/null || true
    cat /proc/sys/net/ipv4/ip_forward >"$state/ip_forward"
    for driver in overlay2 vfs; do
        if dockerd_with "$driver"; then
            say "started dockerd ($driver)"
            return
        fi
    done
    say "dockerd does not start:"
    tail -n 20 "$state/dockerd.log" >&2
    stop
    return 1
}

# iptables-save says nothing where no rule was ever made
restore_iptables() {
    local table
    [ -e "$state/iptables" ] || return 0
    if [ -s "$state/iptables" ]; then
        iptables-restore <"$state/iptables"
        return
    fi
    iptables -P FORWARD ACCEPT
    for table in filter nat; do
        iptables -t $table -F
        iptables -t $table -X
    done
}

stop() {
    local pid link
    [ -d "$state" ] || return 0
    if pid=$(cat "$state/dockerd.pid" 2>/dev/null) && kill "$pid" 2>/dev/null; then
        for _ in $(seq 300); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    fi
    for link in $(ip -o link show type bridge 2>/dev/null | grep -oE '(docker0|br-[0-9a-f]{12})'); do
        ip link delete "$link"
    done
    restore_iptables
    [ ! -s "$state/ip_forward" ] || cat "$state/ip_forward" >/proc/sys/net/ipv4/ip_forward
    # mounts that a killed engine left behind
    grep -oE " ($state|$cache/docker)/[^ ]*" /proc/mounts | sort -r | xargs -r umount -l || true
    rm -rf "$state"
    say "stopped dockerd"
}

case ${1:-} in
start) start ;;
stop) stop ;;
socket) print_socket ;;
*)
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
