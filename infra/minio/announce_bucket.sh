#!/bin/sh
# announce_bucket NAME: lets the MinIO at $S3_ENDPOINT tell its webhook target "1" of every object that
# is created in the bucket.
set -eu

body='<NotificationConfiguration><QueueConfiguration><Queue>arn:minio:sqs::1:webhook</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>'
sha256=$(printf %s "$body" | sha256sum | cut -d ' ' -f 1)
# --config: the credentials are not in the list of processes
answer=$(printf 'user = "%s:%s"\n' "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" |
    curl --config - -sS --max-time 10 --retry 10 --retry-connrefused --noproxy '*' \
        --aws-sigv4 "aws:amz:${S3_REGION:-us-east-1}:s3" -H "x-amz-content-sha256: $sha256" \
        -X PUT --data-binary "$body" -H 'Content-Type: application/xml' \
        -w '\n%{http_code}' "$S3_ENDPOINT/$1?notification=")
case $answer in
*200) echo "objects in bucket $1 are announced" ;;
*)
    echo "cannot set the notifications of bucket $1: $answer" >&2
    exit 1
    ;;
esac
