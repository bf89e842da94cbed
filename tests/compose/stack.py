"""The compose stack of minio-compose.yml, on free ports and with credentials of its own, and what can be
seen of it from outside: its containers, its bucket."""
import contextlib
import json
import os
import pathlib
import secrets
import socket
import subprocess
import time

import boto3
import botocore.config
import botocore.exceptions
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPOSE = os.environ.get("COMPOSE", "docker-compose").split()
S3_SERVER = os.environ.get("S3_SERVER", "minio")
SERVICES = ("preprocess", "classify")
BUCKET = "darkroom"
SLOW = float(os.environ.get("DARKROOM_SLOW", "1"))


def run(*command, env=None, check=True, timeout=300):
    """The output of a command, both streams in one."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", cwd=ROOT, env=os.environ | (env or {}), timeout=timeout)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


def docker(*command, **options):
    return run("docker", *command, **options)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def wait_for(condition, what, timeout=30.0):
    """Poll until condition() is true; its value is returned."""
    deadline = time.monotonic() + timeout * SLOW
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.05)


class Stack:
    def __init__(self):
        self.project = "darkroom-test-" + secrets.token_hex(4)
        names = ("PREPROCESS_PORT", "CLASSIFY_PORT", "PREPROCESS_V2_PORT", "CLASSIFY_V2_PORT", "CONSOLE_PORT", "S3_PORT",
                 "ORCHESTRATOR_PORT", "UPLOADER_PORT", "NOISE_PORT", "BACKGROUND_PORT", "CLASSIFIER_PORT",
                 "GATEWAY_PORT", "RABBITMQ_PORT")
        self.env = {name: str(port) for name, port in zip(names, free_ports(len(names)))}
        # Swift's users have a colon in their names
        self.access_key = "test:tester" if S3_SERVER == "swift" else "user" + secrets.token_hex(8)
        self.secrets = {"MINIO_ROOT_PASSWORD": secrets.token_hex(16), "PUSH_TOKEN": secrets.token_hex(16),
                        "POSTGRES_PASSWORD": secrets.token_hex(16), "RABBITMQ_PASSWORD": secrets.token_hex(16)}
        self.env |= {"MINIO_ROOT_USER": self.access_key} | self.secrets
        self.files = ["minio-compose.yml", "tests/compose/ports.yml"]
        if S3_SERVER == "swift":
            self.files.append("tests/compose/swift.yml")
        if os.environ.get("COMPOSE_TEST_OVERRIDE"):
            self.files.append(os.environ["COMPOSE_TEST_OVERRIDE"])
        self.s3 = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.env['S3_PORT']}", region_name="us-east-1",
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secrets["MINIO_ROOT_PASSWORD"],
            config=botocore.config.Config(s3={"addressing_style": "path"}, proxies={}))

    def compose(self, *command, **options):
        files = [word for name in self.files for word in ("-f", name)]
        return run(*COMPOSE, *files, "-p", self.project, *command, env=self.env, **options)

    def containers(self, service):
        """The ids of a service's containers, running or not."""
        return docker("ps", "-aq", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.project}",
                     "--filter", f"label=com.docker.compose.service={service}").split()

    def container(self, service):
        ids = self.containers(service)
        assert len(ids) == 1, f"{service}: {ids}"
        return ids[0]

    def inspect(self, service):
        return json.loads(docker("inspect", self.container(service)))[0]

    def url(self, service):
        return f"http://127.0.0.1:{self.env[service.upper().replace('-', '_') + '_PORT']}"

    def up(self, *profile, scale=()):
        self.compose(*profile, "up", "-d", *[word for each in scale for word in ("--scale", each)], timeout=600)

    def ready(self, *services, timeout=180):
        for service in services or SERVICES:
            wait_for(lambda s=service: self.get(s, "/readyz") == 200, f"{service} to be ready", timeout)

    def get(self, service, path):
        """The status of a GET; None when there was no answer."""
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.url(service) + path, timeout=40).status_code

    def upload(self, data, query="", service="preprocess", timeout=40):
        return requests.post(f"{self.url(service)}/preprocess{query}", data, headers={"Content-Type": "image/jpeg"},
                             timeout=timeout)

    def listing(self):
        """key -> size of all in the bucket."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def size(self, key):
        """The size of an object; None when there is none."""
        try:
            return self.s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"]
        except botocore.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404, error

    def object(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def result(self, key, timeout=180):
        """The result object of `key`, read from the bucket itself."""
        def look():
            with contextlib.suppress(self.s3.exceptions.NoSuchKey):
                return self.object(key + ".json")
        return json.loads(wait_for(look, f"the result of {key}", timeout))

    def logs(self):
        return {name: docker("logs", id) for id, name in (line.split() for line in docker(
            "ps", "-a", "--filter", f"label=com.docker.compose.project={self.project}",
            "--format", "{{.ID}} {{.Names}}").splitlines())}

    def down(self):
        profiles = [word for name in ("s3v2", "pipeline", "scale") for word in ("--profile", name)]
        self.compose(*profiles, "down", "-v", "--remove-orphans", "-t", "10")
