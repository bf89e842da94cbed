#!/bin/sh
# create_bucket NAME: on the MinIO at $S3_ENDPOINT; that it is there already is fine.
set -eu

# SHA-256 of no body: older curls do not send it
empty=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
# --config: the credentials are not in the list of processes
answer=$(printf 'user = "%s:%s"\n' "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" |
    curl --config - -sS --max-time 10 --retry 10 --retry-connrefused --noproxy '*' \
        --aws-sigv4 "aws:amz:${S3_REGION:-us-east-1}:s3" -H "x-amz-content-sha256: $empty" -X PUT -w '\n%{http_code}' "$S3_ENDPOINT/$1")
case $answer in
*200 | *BucketAlreadyOwnedByYou*) echo "bucket $1 is there" ;;
*)
    echo "cannot create the bucket $1: $answer" >&2
    exit 1
    ;;
esac
