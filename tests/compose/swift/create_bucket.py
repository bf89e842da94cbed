"""create_bucket.py NAME: in Swift's own protocol, since curl takes no access key with a colon."""
import os
import sys
import urllib.request


def request(method, url, headers):
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=10) as reply:
        return reply.headers


granted = request("GET", "http://minio:9000/auth/v1.0", {
    "X-Auth-User": os.environ["MINIO_ROOT_USER"], "X-Auth-Key": os.environ["MINIO_ROOT_PASSWORD"]})
request("PUT", f"http://minio:9000/v1/AUTH_test/{sys.argv[1]}", {"X-Auth-Token": granted["X-Auth-Token"]})
