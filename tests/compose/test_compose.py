"""The images, and the stack of minio-compose.yml, on a real Docker engine. Started by run.sh, which builds
the images first."""
import contextlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import threading
import time

import pytest
import requests

from stack import BUCKET, S3_SERVER, SERVICES, Stack, docker, free_ports, run, wait_for

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from images import decode, encode, gradient, numbered_jpeg  # noqa: E402
from older_client import Client  # noqa: E402
from test_formats import INPUTS, OUTPUTS, assert_quarters, quarters  # noqa: E402

MAX_COMPRESSED_MB = {"preprocess": 80, "classify": 100}
UNWANTED = {"sh", "bash", "dash", "busybox", "python3", "perl", "gcc", "cc", "ld", "as", "make", "apt", "dpkg", "curl"}
LOCKED_DOWN = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
OUTAGE_S = 20


# --- the images alone -----------------------------------------------------------------------------


@contextlib.contextmanager
def container(service, *options):
    """A service by itself on a read-only root: yields (container id, URL)."""
    port, = free_ports(1)
    inside = {"preprocess": 8000, "classify": 8001}[service]
    id = docker("run", "-d", *LOCKED_DOWN, "-p", f"127.0.0.1:{port}:{inside}", *options,
                f"darkroom-{service}").strip()
    url = f"http://127.0.0.1:{port}"

    def answers():
        with contextlib.suppress(requests.RequestException):
            return requests.get(url + "/healthz", timeout=5).status_code == 200
    try:
        wait_for(answers, f"{service} to answer")
        yield id, url
    finally:
        print(docker("logs", id)[-4000:])
        docker("rm", "-fv", id)


@pytest.fixture(scope="module")
def files():
    """service -> {path: TarInfo} of its image."""
    found = {}
    for service in SERVICES:
        id = docker("create", f"darkroom-{service}").strip()
        try:
            exported = subprocess.run(["docker", "export", id], stdout=subprocess.PIPE, check=True, timeout=60).stdout
        finally:
            docker("rm", "-v", id)
        with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
            found[service] = {info.name: info for info in tar}
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_size(service, record_property):
    size = int(run("sh", "-c", f"docker save darkroom-{service} | gzip -6 | wc -c"))
    plain = json.loads(docker("image", "inspect", f"darkroom-{service}"))[0]["Size"]
    record_property("size", f"{service} {size / 1e6:.1f} MB compressed, {plain / 1e6:.1f} MB on disk")
    assert size <= MAX_COMPRESSED_MB[service] * 1_000_000


@pytest.mark.parametrize("service", SERVICES)
def test_only_what_runs(files, service):
    programs = {pathlib.PurePath(path).name for path, info in files[service].items()
                if info.isfile() and info.mode & 0o111 and ".so" not in path and not path.startswith(("etc/", "dev/", ".docker"))}
    assert programs == {f"{service}-service"}
    assert not UNWANTED & {pathlib.PurePath(path).name for path, info in files[service].items() if not info.isdir()}
    assert not [path for path in files[service] if path.endswith((".h", ".a", ".py", ".c"))]
    for library in ("libpoppler", "libopenslide", "libMagickCore"):
        assert not [path for path in files[service] if library in path]


@pytest.mark.parametrize("service", SERVICES)
def test_what_scanners_and_lawyers_want(files, service):
    names = files[service]
    for path in ("etc/os-release", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/share/doc/darkroom/copyright",
                 "var/lib/dpkg/status.d/libvips42t64", "usr/share/doc/libvips42t64/copyright"):
        assert path in names, path
    assert not [path for path, info in names.items() if info.mode & 0o6000], "setuid or setgid files"


@pytest.mark.parametrize("service", SERVICES)
def test_configuration(service):
    config = json.loads(docker("image", "inspect", f"darkroom-{service}"))[0]["Config"]
    assert int(config["User"].split(":")[0]) > 0
    assert config["Entrypoint"] == [f"/usr/local/bin/{service}-service"]
    assert "Healthcheck" not in config
    labels = config["Labels"]
    for name in ("title", "description", "version", "revision", "licenses"):
        assert labels[f"org.opencontainers.image.{name}"], name
    assert docker("run", "--rm", f"darkroom-{service}", "--version").split()[0] == f"{service}-service"


@pytest.mark.parametrize("service", SERVICES)
def test_stops_at_once(service):
    with container(service) as (id, url):
        assert requests.get(url + "/", timeout=10).json()["name"] == f"{service}-service"
        before = time.monotonic()
        docker("stop", "-t", "10", id)
        assert time.monotonic() - before < 3
        state = json.loads(docker("inspect", id))[0]["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def test_every_format():
    with container("preprocess", "-e", "EVENTS_URL=none:") as (_, preprocess), container("classify") as (_, classify):
        for name, make in INPUTS.items():
            data = make(quarters(96, 64))
            for fmt in OUTPUTS:
                reply = requests.post(f"{preprocess}/preprocess?width=96&height=64&format={fmt}", data,
                                      headers={"Content-Type": "image/png"}, timeout=30)
                assert reply.status_code == 200, (name, fmt, reply.text)
                stored = requests.get(f"{preprocess}/images/{reply.json()['id']}", timeout=30)
                assert_quarters(decode(stored.content), 24)
            reply = requests.post(f"{classify}/classify", data, headers={"Content-Type": "image/png"}, timeout=30)
            assert reply.status_code == 200 and reply.json()["label"], (name, reply.text)


# --- the stack ------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(stack, *profile):
    try:
        stack.up(*profile)
        stack.ready()
        yield stack
    finally:
        with contextlib.suppress(AssertionError):
            for name, text in stack.logs().items():
                print(f"--- {name}\n{text[-3000:]}")
        stack.down()


@pytest.fixture(scope="module")
def stack():
    with running(Stack()) as stack:
        yield stack


PICTURE = encode(gradient(600, 400))
numbers = iter(range(1_000_000))


def unique():
    return numbered_jpeg(next(numbers), PICTURE)


class Load:
    """Clients that upload pictures, each until it is acknowledged; `acknowledged` is what they were promised."""

    def __init__(self, stack, clients=2, service="preprocess"):
        self.stack, self.service, self.acknowledged, self.refused = stack, service, {}, []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.client) for _ in range(clients)]

    def client(self):
        data = unique()
        while not self.stopping.is_set():
            try:
                reply = self.stack.upload(data, service=self.service)
            except requests.RequestException as error:
                self.refused.append(type(error).__name__)
            else:
                if reply.status_code == 200:
                    promised = reply.json()
                    self.acknowledged[promised["id"]] = promised
                    data = unique()
                    self.stopping.wait(0.02)  # a load, not an overload
                    continue
                self.refused.append(reply.status_code)
            self.stopping.wait(0.1)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def more(self, count=20, timeout=90):
        """Wait until that many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= wanted, f"{count} more uploads; last: {self.refused[-3:]}", timeout)


def check_promises(stack, load, before, prefix=""):
    """In the bucket: the object of every acknowledged upload, and exactly one result each."""
    assert load.acknowledged
    for id, promised in load.acknowledged.items():
        key = f"{prefix}{id}.jpg"
        assert promised["gcs_path"] == f"s3://{BUCKET}/{key}"
        assert stack.size(key) == promised["bytes"], f"lost: {promised}"
        result = stack.result(key, 120)
        assert result["id"] == id and result["label"] and result["gcs_path"] == promised["gcs_path"]

    there = stack.listing().keys() - before.keys()
    for key in there:  # nothing but objects and their results, one each
        assert key.startswith(prefix) and key.removesuffix(".json").endswith(".jpg"), f"what is {key}?"
        assert "/" not in key.removeprefix(prefix), f"what is {key}?"
    unlisted = {f"{prefix}{id}.jpg{end}" for id in load.acknowledged for end in ("", ".json")} - there
    if S3_SERVER == "swift":  # a Swift that is stopped in a PUT may keep the object and forget to list it
        print(f"{len(load.acknowledged)} acknowledged, {len(unlisted)} keys there but unlisted")
    else:
        assert not unlisted, f"not in the listing: {unlisted}"


def test_only_loopback_ports(stack):
    published = set()
    for service in ("minio", "preprocess", "classify"):
        for inside, bindings in stack.inspect(service)["NetworkSettings"]["Ports"].items():
            for binding in bindings or []:
                assert binding["HostIp"] == "127.0.0.1"
                published.add((service, inside))
    # the test's own look at the bucket is 9000
    assert published == {("minio", "9000/tcp"), ("minio", "9001/tcp"), ("preprocess", "8000/tcp"), ("classify", "8001/tcp")}


def test_locked_down(stack):
    for service in ("minio", "bucket", "preprocess", "classify"):
        found = stack.inspect(service)
        assert found["HostConfig"]["ReadonlyRootfs"] and found["HostConfig"]["CapDrop"] == ["ALL"]
        assert found["HostConfig"]["Memory"] > 0 and not found["HostConfig"]["Privileged"]
        assert int(found["Config"]["User"].split(":")[0]) > 0
    assert stack.inspect("bucket")["State"]["ExitCode"] == 0


def test_upload_object_push_result(stack):
    reply = stack.upload(unique())
    assert reply.status_code == 200, reply.text
    promised = reply.json()
    key = promised["id"] + ".jpg"
    assert promised["gcs_path"] == f"s3://{BUCKET}/{key}"
    stored = stack.object(key)
    assert len(stored) == promised["bytes"] and decode(stored).size == (256, 256)
    head = stack.s3.head_object(Bucket=BUCKET, Key=key)
    assert head["ContentType"] == "image/jpeg"
    result = stack.result(key)
    assert result["id"] == promised["id"] and result["label"] and 0 < result["confidence"] <= 1
    assert requests.get(promised["result_url"], timeout=10).json()["label"] == result["label"]
    assert requests.get(f"{stack.url('preprocess')}/images/{promised['id']}", timeout=10).content == stored
    # the reply of one service is a request to the other
    direct = requests.post(stack.url("classify") + "/classify", json=promised, timeout=30)
    assert direct.json()["label"] == result["label"]


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_each_container_ends_mid_load(stack, how):
    before = stack.listing()
    with Load(stack) as load:
        load.more()
        for service in ("preprocess", "classify", "minio"):
            id = stack.container(service)
            if how == "restart":
                docker("restart", "-t", "10", id)
            else:
                docker("kill", "-s", "KILL", id)
                docker("start", id)
            stack.ready()
            load.more()
    assert set(load.refused) <= {503, "ConnectionError", "ChunkedEncodingError"}, set(load.refused)
    check_promises(stack, load, before)


def test_storage_away_and_back(stack):
    before = stack.listing()
    with Load(stack) as load:
        load.more()
        docker("stop", "-t", "10", stack.container("minio"))
        time.sleep(1)  # uploads that were under way
        acknowledged, began = len(load.acknowledged), time.monotonic()
        wait_for(lambda: stack.get("preprocess", "/readyz") == 503, "readyz to say so", 60)
        while time.monotonic() < began + OUTAGE_S:
            reply = stack.upload(unique())
            assert reply.status_code == 503 and int(reply.headers["Retry-After"]) > 0, reply.text
            assert stack.get("preprocess", "/healthz") == 200
        assert len(load.acknowledged) == acknowledged, "acknowledged without storage"
        docker("start", stack.container("minio"))
        stack.ready()
        load.more()
    assert set(load.refused) == {503}
    check_promises(stack, load, before)


def test_libs3_profile(stack):
    stack.up("--profile", "s3v2")
    stack.ready("preprocess-v2", "classify-v2")
    reply = stack.upload(unique(), service="preprocess-v2")
    assert reply.status_code == 200, reply.text
    key = f"v2/{reply.json()['id']}.jpg"
    assert reply.json()["gcs_path"] == f"s3://{BUCKET}/{key}"
    assert decode(stack.object(key)).size == (256, 256)
    assert stack.result(key)["label"]
    for service in ("preprocess-v2", "classify-v2"):
        assert "S3_SIGNATURE=v2" in docker("logs", stack.container(service))


def test_pipeline_profile(stack, tmp_path):
    """The older pipeline's client, unchanged, on the ports that it knows."""
    stack.up("--profile", "pipeline")
    stack.ready("orchestrator", "uploader", "noise", "background", "classifier")
    client = Client(stack.url("orchestrator"), tmp_path)
    client.run({f"{n}.png": unique() for n in range(3)})
    assert not client.refused and not client.errors
    assert len(client.labels) == 3 and all(client.labels.values())
    assert all(decode((tmp_path / "results" / f"processed_{n}.png").read_bytes()).mode == "RGBA" for n in range(3))


def test_haproxy_takes_the_configuration():
    """Another release than that of the integration tests. It would print its warnings."""
    assert docker("run", "--rm", *LOCKED_DOWN, "-e", "DNS=127.0.0.11:53", "darkroom-gateway", "-c", "-dW") == ""


def listed(stack, service):
    """id -> row of the catalogue's pages."""
    rows, cursor = [], ""
    while cursor is not None:
        page = requests.get(f"{stack.url(service)}/v1/images?limit=200{cursor}", timeout=30).json()
        rows += page["images"]
        cursor = page["next"] and f"&before={page['next']}"
    assert len({row["id"] for row in rows}) == len(rows), "listed twice"
    return {row["id"]: row for row in rows}


def uploads_of(id):
    """How many a container's log says were taken."""
    lines = [json.loads(line) for line in docker("logs", id).splitlines() if line[:1] == "{"]
    return sum(line.get("path") == "/preprocess" and line["status"] == 200 for line in lines)


def consumers(stack):
    """How many instances take events from the broker."""
    return docker("exec", stack.container("rabbitmq"), "/usr/lib/rabbitmq/bin/rabbitmqctl", "-q", "list_consumers", "-p",
                  "darkroom", "queue_name", check=False).split().count("darkroom.images")


def test_scale_profile(stack):
    """Instances behind the gateway, which are killed under load, and so are the engines below them."""
    stack.up("--profile", "scale", scale=("classify-service=3", "preprocess-service=2"))
    stack.ready("gateway")
    before = stack.listing()
    with Load(stack, service="gateway") as load:
        wait_for(lambda: all(uploads_of(id) for id in stack.containers("preprocess-service")), "work for both", 120)
        wait_for(lambda: consumers(stack) == 3, "work for all three", 120)
        load.refused.clear()  # of the seconds before all had found each other
        for service in ("classify-service", "preprocess-service"):
            id = stack.containers(service)[0]
            docker("kill", "-s", "KILL", id)
            load.more()
            docker("start", id)
        assert not load.refused, "the others serve"
        for service in ("postgres", "rabbitmq"):
            docker("kill", "-s", "KILL", stack.container(service))
            docker("start", stack.container(service))
            load.more()
    assert set(load.refused) <= {503}, set(load.refused)
    check_promises(stack, load, before, "scale/")

    def labelled():
        rows = listed(stack, "gateway")
        assert load.acknowledged.keys() <= rows.keys(), "acknowledged, and not listed"
        return all(rows[id]["label"] for id in load.acknowledged)
    wait_for(labelled, "every label in the catalogue", 120)
    for service in ("gateway", "postgres", "rabbitmq", "classify-service", "preprocess-service"):
        for id in stack.containers(service):
            found = json.loads(docker("inspect", id))[0]
            assert found["HostConfig"]["ReadonlyRootfs"] and found["HostConfig"]["CapDrop"] == ["ALL"]
            assert int(found["Config"]["User"].split(":")[0]) > 0


def check_no_credentials_in_the_logs(stack):
    logs = stack.logs()
    assert len([name for name in logs if "preprocess" in name or "classify" in name]) >= 2
    for name, text in logs.items():
        if S3_SERVER == "swift" and "minio" in name:
            continue  # Swift's log is not ours
        for what, secret in stack.secrets.items():
            assert secret not in text, f"{what} is in the log of {name}"


def test_no_credentials_in_the_logs(stack):
    check_no_credentials_in_the_logs(stack)


def test_a_second_up_changes_nothing(stack):
    ids = [stack.container(service) for service in ("minio", *SERVICES)]
    stack.up()
    stack.ready()
    assert [stack.container(service) for service in ("minio", *SERVICES)] == ids


def test_rabbitmq_profile():
    """The broker alone, and the first two services on it: as the head of minio-compose.yml says."""
    stack = Stack()
    url = f"amqp://darkroom:{stack.secrets['RABBITMQ_PASSWORD']}@rabbitmq/darkroom"
    stack.env |= {"EVENTS_URL": url, "SOURCE_URL": url}
    with running(stack, "--profile", "rabbitmq"):
        data = unique()

        def upload():
            reply = stack.upload(data)
            assert reply.status_code in (200, 503), reply.text  # 503: the broker is starting
            return reply.json() if reply.status_code == 200 else None
        promised = wait_for(upload, "the broker to take an upload", 120)
        assert stack.result(promised["id"] + ".jpg")["label"]
        for service, outcome in (("preprocess", "confirmed"), ("classify", "consumed")):
            metrics = requests.get(stack.url(service) + "/metrics", timeout=10).text
            assert re.search(rf'^broker_messages_total{{outcome="{outcome}"}} [1-9]', metrics, re.M), (service, outcome)
        assert consumers(stack) == 1
        assert not stack.containers("gateway") and not stack.containers("postgres")
        binding, = stack.inspect("rabbitmq")["NetworkSettings"]["Ports"]["5672/tcp"]
        assert binding == {"HostIp": "127.0.0.1", "HostPort": stack.env["RABBITMQ_PORT"]}
        check_no_credentials_in_the_logs(stack)
