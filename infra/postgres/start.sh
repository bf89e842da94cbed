#!/bin/sh
# Makes the database `darkroom` on the first start, then is PostgreSQL.
set -eu
folder=/data/postgres

if [ ! -d "$folder" ]; then
    new=$folder.new # what was interrupted is made again
    rm -rf "$new"
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --pgdata="$new" --username=darkroom --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
    echo 'CREATE DATABASE darkroom' | postgres --single -D "$new" postgres
    mv "$new" "$folder"
fi
unset POSTGRES_PASSWORD
exec postgres -D "$folder" -c listen_addresses='*' -c unix_socket_directories=/tmp
