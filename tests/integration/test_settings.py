"""The command line, the environment, and every reason not to start."""
import hashlib
import json
import shutil
import socket
import subprocess

import onnx
import pytest
from PIL import Image

from conftest import BUILD, MODEL, SLOW, Service, wait_for
from images import encode, gradient
from models import tiny_model

pytestmark = pytest.mark.memory

SERVICES = ["preprocess-service", "classify-service"]
both = pytest.mark.parametrize("name", SERVICES)

# What section 3 of the contract names and one machine needs: name -> default as --help shows it.
COMMON = {
    "HOST": "0.0.0.0", "LOG_LEVEL": "info", "LOG_FORMAT": "json", "MAX_BODY_BYTES": "33554432",
    "MAX_PIXELS": "110000000", "MAX_DECODE_BYTES": "536870912", "DECODE_BUDGET_BYTES": "536870912",
    "MAX_CONNECTIONS": "1000", "MAX_INFLIGHT": "256",
    "BODY_BUDGET_BYTES": "134217728", "BODY_STALL_MS": "10000", "BODY_MIN_RATE": "1024", "WORKERS": "0", "QUEUE_MAX": "64", "REQUEST_TIMEOUT_MS": "30000",
    "SHUTDOWN_GRACE_MS": "8000", "SHUTDOWN_NOTICE_MS": "0", "CA_FILE": "-", "CORS_ORIGINS": "-", "STORAGE_URL": "-", "SEAL_KEYS_FILE": "-", "BUCKET": "-",
    "S3_ENDPOINT": "-", "S3_REGION": "us-east-1", "S3_ADDRESSING": "path", "S3_SIGNATURE": "v4",
    "AWS_ACCESS_KEY_ID": "-", "AWS_SECRET_ACCESS_KEY": "-", "AWS_SESSION_TOKEN": "-", "GCS_ENDPOINT": "-",
    "STORAGE_EMULATOR_HOST": "-", "GCE_METADATA_HOST": "-", "GOOGLE_APPLICATION_CREDENTIALS": "-",
    "AUTH_AUDIENCE": "-", "AUTH_EMAILS": "-", "OIDC_ISSUER": "https://accounts.google.com",
    "OIDC_JWKS_URL": "https://www.googleapis.com/oauth2/v3/certs", "PUSH_TOKEN": "-", "ALLOW_EPHEMERAL": "off", "SANDBOX": "on", "GOOGLE_CLOUD_PROJECT": "-", "PUBSUB_ENDPOINT": "-",
    "PUBSUB_EMULATOR_HOST": "-",
}
OWN = {
    "preprocess-service": {
        "PORT": "8000", "IMAGES": "on", "RESULTS_BASE_URL": "-", "EVENTS_URL": "push+http://127.0.0.1:8001/pubsub",
        "OUTBOX_PATH": "data/outbox.db", "SEAL": "asked", "CATALOGUE_URL": "sqlite:data/catalogue.db", "OUTBOX_MAX_PENDING": "100000", "PUSH_CONCURRENCY": "4",
        "MAX_DELIVERY_ATTEMPTS": "20", "DELIVERY_MAX_AGE_S": "604800", "PREP_TOPIC": "-", "RETENTION_DAYS": "0",
        "REMOVE_BACKGROUND": "on", "BACKGROUND_CONCURRENCY": "1", "BACKGROUND_MODEL": "build/models/u2netp.json", "UPLOADER_URL": "-",
        "NOISE_URL": "-", "BACKGROUND_URL": "-", "CLASSIFIER_URL": "http://127.0.0.1:8001/classify",
        "UPLOADER_ADDR": "-", "NOISE_ADDR": "-", "BACKGROUND_ADDR": "-", "CLASSIFIER_ADDR": "-",
        "USERS": "off", "USERS_URL": "-", "TOKEN_KEY_FILE": "data/token.keys", "ADMINS": "-", "PROXIES": "0",
        "IMAGE_MANAGER_API": "off", "IMAGE_MANAGER_SECRET": "-",
    },
    "classify-service": {"PORT": "8001", "MODEL": "build/models/model.json", "ALLOWED_BUCKETS": "-", "PUSH_AUDIENCE": "-",
                         "PUSH_SERVICE_ACCOUNT": "-",
                         "SOURCE_URL": "-", "CLASS_TOPIC": "-", "AMQP_OLD_QUEUE": "off", "IMAGEDISK_HOST": "localhost",
                         "IMAGEDISK_PORT": "3000"},
}


def run(name, folder, *arguments, timeout=20, **env):
    """Run to its end: a service that wrongly starts is a timeout."""
    return subprocess.run([BUILD / name, *arguments], cwd=folder, capture_output=True, text=True,
                          timeout=timeout * SLOW, check=False,
                          env=Service(name, folder).env | {"HOST": "127.0.0.1"} |
                          {k: str(v) for k, v in env.items() if v is not None})


def assert_refused(result, *words):
    assert result.returncode == 2, result
    told = result.stdout + result.stderr
    for word in words:
        assert word in told, told
    return told


# --- the command line -----------------------------------------------------------------------------


@both
def test_version(name, tmp_path):
    result = run(name, tmp_path, "--version")
    assert (result.returncode, result.stderr) == (0, "")
    program, version = result.stdout.split()
    assert program == name and version[0].isdigit()


@both
def test_help_prints_the_table(name, tmp_path):
    result = run(name, tmp_path, "--help", PORT="nonsense", PUSH_TOKEN="s3cret")
    assert (result.returncode, result.stderr) == (0, "")
    assert "s3cret" not in result.stdout
    rows = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines() if line.startswith("  ")}
    assert rows == COMMON | OWN[name]
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("  ")}
    assert "(1 to 65535)" in lines["PORT"]
    assert "(json|text)" in lines["LOG_FORMAT"]
    assert "(secret)" in lines["PUSH_TOKEN"]
    assert ("--outbox" in result.stdout) == (name == "preprocess-service")
    assert ("--catalogue" in result.stdout) == (name == "preprocess-service")


@both
@pytest.mark.parametrize("arguments", [["--nonsense"], ["-v"], ["help"], ["--version", "x"], ["--help", "x"], [""]])
def test_unknown_argument(name, arguments, tmp_path):
    assert_refused(run(name, tmp_path, *arguments), "argument", arguments[0], "--help")


# --- values ---------------------------------------------------------------------------------------

MISTAKES = {
    "PORT": ["0", "65536", "x", "80 ", "-1", "1e3"], "LOG_LEVEL": ["loud", "INFO"], "LOG_FORMAT": ["xml"],
    "MAX_BODY_BYTES": ["0", "1k", "99999999999999999999"], "MAX_PIXELS": ["0", "-5"], "MAX_DECODE_BYTES": ["1"],
    "DECODE_BUDGET_BYTES": ["1"],
    "MAX_CONNECTIONS": ["0"], "MAX_INFLIGHT": ["0"], "BODY_BUDGET_BYTES": ["5"],
    "BODY_STALL_MS": ["99", "100001"], "BODY_MIN_RATE": ["0", "x"], "WORKERS": ["-1", "many"],
    "QUEUE_MAX": ["0"], "REQUEST_TIMEOUT_MS": ["1"], "SHUTDOWN_GRACE_MS": ["0"], "ALLOW_EPHEMERAL": ["maybe"], "SANDBOX": ["maybe"],
    "STORAGE_URL": ["ftp://x", "data", "/data", "http://x/y"], "GOOGLE_CLOUD_PROJECT": ["a/b", "A"],
    "PUBSUB_ENDPOINT": ["host", "http://h/path"],
}
OWN_MISTAKES = {
    "preprocess-service": {
        "IMAGES": ["perhaps"], "OUTBOX_MAX_PENDING": ["0"], "PUSH_CONCURRENCY": ["0", "65"],
        "RETENTION_DAYS": ["-1", "x", "36501"], "MAX_DELIVERY_ATTEMPTS": ["0"], "DELIVERY_MAX_AGE_S": ["0"],
        "EVENTS_URL": ["http://x/pubsub", "push+ftp://x", "push+http://", "push+http:///x", "none", "x", "push+http://user:word@x/pubsub", "amqp://", "amqp://h:0",
                       "amqp://h/a/b", "amqp://u:%zz@h", "amqp://h?x=1", "amqp://h?heartbeat=0",
                       "push+http://a b/", "pubsub://img-topic", "pubsub://projects/P/topics/x",
                       "pubsub://projects/p/topics/a/b", "pubsub:projects/p/topics/img-topic"],
        "PREP_TOPIC": ["no", "a topic", "1topic", "projects/p/topic/img", "topics/img", "projects//topics/img-topic"],
        "UPLOADER_URL": ["host:50060/upload"], "NOISE_URL": ["ftp://x"], "BACKGROUND_URL": ["http://"],
        "CLASSIFIER_URL": ["x", "http://user:word@x/classify"],
        "UPLOADER_ADDR": ["http://host:50040"], "NOISE_ADDR": ["host"], "BACKGROUND_ADDR": ["host:0", ":50042"],
        "CLASSIFIER_ADDR": ["host:65536", "user@host:50043"],
        "RESULTS_BASE_URL": ["results.example", "ftp://x", "http://", "http://x/?a=b"],
    },
    "classify-service": {"ALLOWED_BUCKETS": ["bucket"], "CLASS_TOPIC": ["no", "a/b/c", "projects/p/topics/"],
                         "SOURCE_URL": ["x", "http://h", "amqp://", "amqp://h/a/b", "amqps://u:%zz@h"],
                         "AMQP_OLD_QUEUE": ["perhaps"], "IMAGEDISK_PORT": ["0", "65536"]},
}


KEYS = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-secret"}


@both
def test_every_mistake_is_named(name, tmp_path):
    for variable, values in (MISTAKES | OWN_MISTAKES[name]).items():
        for value in values:
            told = assert_refused(run(name, tmp_path, **{variable: value}), variable + ":")
            assert len(told.strip().splitlines()) == 2, told


@both
def test_mistakes_are_told_together(name, tmp_path):
    wrong = {variable: values[0] for variable, values in (MISTAKES | OWN_MISTAKES[name]).items()}
    wrong["STORAGE_URL"] = "s3://one" if name == "preprocess-service" else "file:x"
    told = assert_refused(run(name, tmp_path, BUCKET="two", **KEYS, **wrong), "BUCKET and STORAGE_URL")
    for variable in wrong.keys() - {"STORAGE_URL"}:
        assert f"\n{variable}: " in told, variable
    assert len(told.strip().splitlines()) == len(wrong) + 1  # a title, one each; STORAGE_URL's is BUCKET's


@both
def test_what_the_store_finds_is_told_with_the_rest(name, tmp_path):
    told = assert_refused(run(name, tmp_path, PORT="x", STORAGE_URL="s3://photos", S3_SIGNATURE="v2",
                              AWS_ACCESS_KEY_ID="an-id", AWS_SESSION_TOKEN="a-token"),
                          "\nPORT: ", "\nSTORAGE_URL: s3:// needs both", "\nSTORAGE_URL: S3_SIGNATURE=v2 needs an http://",
                          "\nSTORAGE_URL: S3_SIGNATURE=v2 has no session tokens")
    assert len(told.strip().splitlines()) == 5, told


@both
@pytest.mark.parametrize("url, bucket, ok", [
    ("s3://photos", "other", False), ("s3://photos", "photo", False), ("s3://photos/prefix", "photos2", False),
    ("file:data", "photos", False), ("file:///photos", "photos", False), ("gs://photos/prefix", "photos", True),
    ("gs://photos", "photos", True),
])
def test_bucket_contradiction(name, url, bucket, ok, tmp_path):
    result = run(name, tmp_path, STORAGE_URL=url, BUCKET=bucket, **KEYS,
                 GOOGLE_APPLICATION_CREDENTIALS="/nonexistent.json")
    assert ("BUCKET and STORAGE_URL" in result.stderr) != ok
    assert result.returncode == 2


def test_a_stage_has_one_place(tmp_path):
    for stage in ("UPLOADER", "NOISE", "BACKGROUND", "CLASSIFIER"):
        places = {f"{stage}_URL": "http://127.0.0.1:9/x", f"{stage}_ADDR": "127.0.0.1:9"}
        assert_refused(run("preprocess-service", tmp_path, **places), f"{stage}_URL, {stage}_ADDR: set one of them")


@both
def test_empty_is_unset(name, tmp_path, services):
    """As container platforms write it: LOG_LEVEL= is the default."""
    empty = {variable: "" for variable in (COMMON | OWN[name]) if variable not in
             ("PORT", "HOST", "MODEL", "STORAGE_URL", "OUTBOX_PATH", "SHUTDOWN_GRACE_MS")}
    services.append(Service(name, tmp_path, **empty))
    assert services[0].start().get("/readyz").status == 200


@both
def test_cloud_run(name, tmp_path, services):
    """Disks vanish there: refused, unless it is wanted."""
    told = assert_refused(run(name, tmp_path, K_SERVICE="darkroom"), "STORAGE_URL", "ALLOW_EPHEMERAL")
    assert ("EVENTS_URL" in told) == (name == "preprocess-service")
    told = assert_refused(run(name, tmp_path, K_SERVICE="darkroom", EVENTS_URL="none:"), "STORAGE_URL")
    assert "EVENTS_URL" not in told
    services.append(Service(name, tmp_path, K_SERVICE="darkroom", ALLOW_EPHEMERAL="1"))
    assert services[0].start().get("/healthz").status == 200


def test_rabbitmq_on_cloud_run(tmp_path, services):
    """A consumer would sleep between requests; an upload waits for its confirm, during which there is CPU."""
    cloud = {"K_SERVICE": "darkroom", "STORAGE_URL": "gs://bucket", "STORAGE_EMULATOR_HOST": "127.0.0.1:9"}
    assert_refused(run("classify-service", tmp_path, SOURCE_URL="amqp://127.0.0.1:9", **cloud), "SOURCE_URL", "ALLOW_EPHEMERAL")
    services.append(Service("classify-service", tmp_path, SOURCE_URL="amqp://127.0.0.1:9", ALLOW_EPHEMERAL="1", **cloud))
    assert services[0].start().get("/healthz").status == 200
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="amqp://127.0.0.1:9", CATALOGUE_URL="", **cloud))
    assert services[1].start().get("/healthz").status == 200


def test_catalogue_on_cloud_run(tmp_path, services):
    """A file is refused; where nobody asked for one, there is no catalogue."""
    cloud = {"K_SERVICE": "darkroom", "EVENTS_URL": "none:", "STORAGE_URL": "gs://bucket",
             "STORAGE_EMULATOR_HOST": "127.0.0.1:9"}
    told = assert_refused(run("preprocess-service", tmp_path, CATALOGUE_URL="sqlite:x.db", **cloud), "CATALOGUE_URL")
    assert "postgresql://" in told
    services.append(Service("preprocess-service", tmp_path, CATALOGUE_URL="", **cloud))
    assert services[0].start().get("/v1/images").status == 404


@pytest.mark.parametrize("url", ["catalogue.db", "sqlite:", "mysql://host/db", "postgres"])
def test_catalogue_urls_that_are_none(tmp_path, url):
    assert_refused(run("preprocess-service", tmp_path, CATALOGUE_URL=url), "CATALOGUE_URL: must be sqlite:PATH or postgresql://..., or none:")


def test_a_catalogue_that_cannot_be_opened(tmp_path):
    (tmp_path / "folder").mkdir()
    done = run("preprocess-service", tmp_path, CATALOGUE_URL="sqlite:folder")
    assert done.returncode == 1 and "CATALOGUE_URL" in done.stdout, done


PUSH = {"PUSH_AUDIENCE": "https://x", "PUSH_SERVICE_ACCOUNT": "a@b"}
AUTH = {"AUTH_AUDIENCE": "https://x", "AUTH_EMAILS": "a@b,c@d"}
OPEN_DOORS = [
    ({"AUTH_AUDIENCE": "x"}, "AUTH_AUDIENCE, AUTH_EMAILS"), ({"AUTH_EMAILS": "a@b"}, "AUTH_AUDIENCE, AUTH_EMAILS"),
    (AUTH | {"AUTH_EMAILS": " , "}, "AUTH_EMAILS:"), (AUTH | {"AUTH_EMAILS": "*"}, "AUTH_EMAILS:"),
    (AUTH | {"AUTH_EMAILS": "*@b"}, "AUTH_EMAILS:"), (AUTH | {"AUTH_AUDIENCE": "a,b"}, "AUTH_AUDIENCE:"),
    (AUTH | {"OIDC_JWKS_URL": "http://keys.example/"}, "OIDC_JWKS_URL:"), (AUTH | {"OIDC_ISSUER": "me"}, "OIDC_ISSUER:"),
    (AUTH | {"OIDC_JWKS_URL": "http://127.0.0.1.example/"}, "OIDC_JWKS_URL:"),
    ({"OIDC_ISSUER": "https://accounts.google.com"}, "OIDC_ISSUER"), ({"OIDC_JWKS_URL": "https://x/y"}, "OIDC_JWKS_URL"),
]
OPEN_PUSH = [
    ({"PUSH_AUDIENCE": "x"}, "PUSH_AUDIENCE, PUSH_SERVICE_ACCOUNT"), ({"PUSH_SERVICE_ACCOUNT": "a@b"}, "PUSH_AUDIENCE"),
    (PUSH | {"PUSH_SERVICE_ACCOUNT": "a@b,c@d"}, "PUSH_SERVICE_ACCOUNT:"),
]


@both
def test_open_doors_are_refused(name, tmp_path):
    for env, word in OPEN_DOORS + (OPEN_PUSH if name == "classify-service" else []):
        told = assert_refused(run(name, tmp_path, **env), word)
        assert len(told.strip().splitlines()) == 2, told


@both
def test_port_in_use(name, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = assert_refused(run(name, tmp_path, PORT=port), f"127.0.0.1:{port}")
        assert "in use" in told


@both
def test_unusable_host_and_storage(name, tmp_path):
    assert_refused(run(name, tmp_path, HOST="no.such.host.invalid", timeout=60), "HOST")
    (tmp_path / "file").write_text("x")
    assert_refused(run(name, tmp_path, STORAGE_URL=f"file://{tmp_path}/file"), "STORAGE_URL", str(tmp_path / "file"))


@both
def test_relative_storage(name, tmp_path, services):
    services.append(Service(name, tmp_path, STORAGE_URL="file:some/where"))
    services[0].start()
    assert (tmp_path / "some/where").is_dir()


@both
def test_secrets_are_never_printed(name, tmp_path, services):
    """Nor after mistakes, nor at the most talkative level."""
    secret = "t0ps3cret"
    secrets = {"PUSH_TOKEN": secret, "AWS_ACCESS_KEY_ID": secret, "AWS_SECRET_ACCESS_KEY": secret,
               "AWS_SESSION_TOKEN": secret}
    for wrong in ({"PORT": "x"}, {"STORAGE_URL": "s3://x"}, {"PUSH_TOKEN": secret + "\nline"}):
        result = run(name, tmp_path, **(secrets | wrong))
        assert result.returncode == 2
        assert secret not in result.stdout + result.stderr
    services.append(Service(name, tmp_path, LOG_LEVEL="debug", **secrets))
    service = services[0].start()
    for path in ("/", "/metrics", "/readyz", "/openapi.json"):
        assert secret not in service.get(path).body.decode()
    service.request("POST", "/pubsub", "x", {"Authorization": "Bearer " + secret})
    if name == "preprocess-service":
        service.upload(encode(gradient()))
    service.stop()
    assert service.log() and secret not in service.log()


@both
def test_text_log(name, tmp_path, services):
    services.append(Service(name, tmp_path, LOG_FORMAT="text", LOG_LEVEL="info"))
    service = services[0].start()
    wait_for(lambda: "ready" in service.log(), "the log")  # written after the port is open
    assert not service.log_lines()


def test_push_token_is_shared(tmp_path, services):
    """The dispatcher sends what /pubsub asks for."""
    classify = Service("classify-service", tmp_path, PUSH_TOKEN="shared")
    preprocess = Service("preprocess-service", tmp_path, PUSH_TOKEN="shared", EVENTS_URL=f"push+{classify.url}/pubsub")
    services += [preprocess, classify]
    classify.start()
    told = preprocess.start().upload(encode(gradient())).json()
    wait_for(lambda: classify.get("/results/" + told["id"]).status == 200, "the result")


# --- models ---------------------------------------------------------------------------------------


@pytest.fixture(name="model")
def fixture_model(tmp_path):
    """A copy of the model's folder that a test may spoil: its manifest's path."""
    shutil.copytree(MODEL.parent, tmp_path / "models")
    return tmp_path / "models" / MODEL.name


def spoil(model, **changes):
    """Change fields of the manifest; a dotted name is a nested field, None removes it."""
    manifest = json.loads(model.read_text())
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        place = manifest
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    model.write_text(json.dumps(manifest))
    return model


def test_missing_model(tmp_path, model):
    assert_refused(run("classify-service", tmp_path, MODEL=tmp_path / "none.json"), "none.json", "make model")
    file = model.parent / json.loads(model.read_text())["file"]
    file.unlink()
    assert_refused(run("classify-service", tmp_path, MODEL=model), file.name, "make model")


def test_altered_model_is_refused(tmp_path, model):
    path = model.parent / json.loads(model.read_text())["file"]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert_refused(run("classify-service", tmp_path, MODEL=model), "sha256",
                   hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("changes, word", [
    ({"input__tensor": "nothing"}, "nothing"), ({"output__tensor": "nothing"}, "nothing"),
    ({"output__drop_first": 0}, ""), ({"output__drop_first": 2}, ""), ({"input__layout": "NHWC"}, ""),
    ({"labels__file": "none.txt"}, "none.txt"), ({"name": "a/b"}, "name"), ({"sha256": None}, "sha256"),
    ({"input__mean": [1, 2]}, "mean"), ({"input__std": [0, 1, 1]}, "std"), ({"output__activation": "x"}, "activation"),
])
def test_manifest_that_does_not_fit(tmp_path, model, changes, word):
    labels = model.parent / json.loads(model.read_text())["labels"]["file"]
    if changes == {"output__drop_first": 0}:  # one label more than classes
        labels.write_text(labels.read_text() + "one too many\n")
    elif changes == {"output__drop_first": 2}:
        labels.write_text("a\nb\nc\n")
    assert_refused(run("classify-service", tmp_path, MODEL=spoil(model, **changes)), "MODEL", word)


@pytest.mark.parametrize("shape, kind", [([3], onnx.TensorProto.FLOAT), ([1, 1, 3], onnx.TensorProto.FLOAT),
                                         ([3, 1], onnx.TensorProto.FLOAT), ([1, 3], onnx.TensorProto.DOUBLE),
                                         ([1, 3], onnx.TensorProto.INT64)])
def test_model_of_another_kind_is_refused(tmp_path, shape, kind):
    """At start, not at the first request."""
    assert_refused(run("classify-service", tmp_path, MODEL=tiny_model(tmp_path, "out", shape, kind)), "MODEL", "floats")


def test_any_classifier_with_a_manifest(tmp_path, services):
    """Three classes that say which channel is the strongest: red is red in the tensor, too."""
    services.append(Service("classify-service", tmp_path, MODEL=tiny_model(tmp_path, "out", [1, 3])))
    service = services[0].start()
    for colour, label in (((230, 60, 20), "red"), ((20, 230, 60), "green"), ((60, 20, 230), "blue")):
        for fmt, options in (("PNG", {}), ("JPEG", {"quality": 98, "subsampling": 0}), ("WEBP", {"lossless": True}),
                             ("TIFF", {}), ("GIF", {})):
            told = service.post_image("/classify", encode(Image.new("RGB", (9, 7), colour), fmt, **options)).json()
            assert (told["label"], told["model"], len(told["top"])) == (label, "tiny", 3), fmt
            got = {entry["index"]: entry["confidence"] * 255 for entry in told["top"]}
            assert all(abs(got[n] - value) < 3 for n, value in enumerate(colour)), (fmt, got)
