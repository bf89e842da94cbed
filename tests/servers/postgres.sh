#!/usr/bin/env bash
# Runs Debian's PostgreSQL on 127.0.0.1:PORT, with its files in FOLDER, until it is killed.
# The database postgres is for the user darkroom, without a password. Exit status 77: it is not installed.
#
#   postgres.sh FOLDER PORT
set -euo pipefail
folder=$1/postgres port=$2 run=()

bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)
if [[ ! -x $bin/postgres ]]; then
    echo "PostgreSQL is not installed (Debian's package: postgresql)" >&2
    exit 77
fi
mkdir -p "$folder"
if ((EUID == 0)); then # initdb refuses root
    chmod a+x "$1"
    chown nobody "$folder"
    run=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
fi
cd "$folder" # nobody may not be where we are
if [[ ! -f $folder/PG_VERSION ]]; then
    "${run[@]}" "$bin/initdb" -D "$folder" -U darkroom -A trust -E UTF8 --locale=C --no-sync >/dev/null
fi
exec "${run[@]}" setpriv --pdeathsig=SIGQUIT "$bin/postgres" -D "$folder" -p "$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c max_connections=50 -c shared_buffers=16MB -c fsync="${POSTGRES_FSYNC:-off}"
