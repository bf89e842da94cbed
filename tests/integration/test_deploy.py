"""infra/cloudrun: what the scripts make, that a second run changes nothing, and that they take it all away again.

The Pub/Sub part is made by the real gcloud on Google's Pub/Sub emulator, and every other command line goes through
the real gcloud's parser, where the Cloud SDK is installed; a stand-in for gcloud keeps the rest.
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from conftest import BUILD, ROOT, SLOW, Service, Stack, made_once

sys.path.insert(0, str(ROOT / "tests/servers"))
import servers  # noqa: E402
from raw_clients import curl  # noqa: E402
from pubsub_emulator import PubsubEmulator  # noqa: E402

CLOUDRUN = ROOT / "infra/cloudrun"
GCLOUD = shutil.which("gcloud")
SDK = next((p for p in (pathlib.Path(GCLOUD).resolve().parents[1] if GCLOUD else None, pathlib.Path("/usr/lib/google-cloud-sdk"))
            if p and (p / "lib/googlecloudsdk").is_dir()), None)
SDK_PYTHON = SDK and next((p for p in (SDK / "platform/bundledpythonunix/bin/python3", pathlib.Path("/usr/bin/python3"))
                           if p.exists()), None)
needs_sdk = pytest.mark.skipif(SDK is None or GCLOUD is None, reason="NO GOOGLE CLOUD SDK HERE: the deployment was "
                               "tried on a stand-in for gcloud only, its command lines not on the real parser")

URL = "https://classify-service-123456789.europe-west1.run.app"
OPTIONS = {"RETENTION_DAYS": "30", "GITHUB_REPOSITORY": "me/darkroom"}
CHANGES = re.compile(r"\b(create|create-oidc|delete|replace|update|update-traffic|enable|add-iam-policy-binding|rm|"
                     r"remove-iam-policy-binding)\b")


class Cloud:
    """Where the scripts run: a project with nothing in it."""

    def __init__(self, folder, **env):
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "bin/gcloud").symlink_to(ROOT / "tests/integration/fake_gcloud.py")
        self.env = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "FAKE_GCLOUD": str(folder), "HOME": str(folder),
                    "PROJECT_ID": "darkroom-test", "REGION": "europe-west1", "REPO": "darkroom", "BUCKET": "darkroom-b"}
        self.env |= env

    def run(self, script, *arguments, status=0, given="", **env):
        """(what it printed, the command lines it ran)"""
        (self.folder / "calls").write_text("")
        done = subprocess.run([CLOUDRUN / script, *arguments], env=self.env | env, capture_output=True, text=True,
                              timeout=180 * SLOW, check=False, input=given)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr, self.calls(self.folder)

    @staticmethod
    def calls(folder):
        return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]

    def state(self):
        path = self.folder / "state.json"
        return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path, **OPTIONS)


@pytest.fixture(scope="session")
def deployed_once(tmp_path_factory):
    """(state, command lines) of a first deployment"""
    folder = made_once(tmp_path_factory, "deployed", lambda folder: Cloud(folder, **OPTIONS).run("deploy.sh"))
    return json.loads((folder / "state.json").read_text()), Cloud.calls(folder)


@pytest.fixture
def deployed(cloud, deployed_once):
    """A project with Darkroom in it."""
    (cloud.folder / "state.json").write_text(json.dumps(deployed_once[0]))
    return cloud


def changes(calls):
    return [" ".join(words) for words in calls
            if CHANGES.search(" ".join(w for w in words if not w.startswith("--")))]


def bindings(state):
    """{(resource, member without its domain): {roles}}"""
    found = {}
    for key, policy in state.items():
        for binding in policy if key.startswith("policy ") else []:
            for member in binding["members"]:
                who = re.sub(r"^serviceAccount:(service-\d+)?@?([^@]*).*", r"\2", member)
                found.setdefault((key.removeprefix("policy "), who), set()).add(binding["role"])
    return found


# --- the scripts, on the stand-in ----------------------------------------------------------------


@pytest.mark.once
def test_a_second_run_changes_nothing(deployed, deployed_once):
    state, first = deployed_once
    assert len(changes(first)) > 30
    _, second = deployed.run("deploy.sh")
    assert changes(second) == []
    assert deployed.state() == state


@pytest.mark.once
def test_everyone_gets_the_least(deployed):
    account = "iam service-accounts {}@darkroom-test.iam.gserviceaccount.com"
    bucket, push = "storage buckets gs://darkroom-b", account.format("darkroom-push")
    assert bindings(deployed.state()) == {
        (bucket, "darkroom-preprocess"): {"roles/storage.objectUser"},
        (bucket, "darkroom-classify"): {"roles/storage.objectUser"},
        ("pubsub topics img-preprocessed", "darkroom-preprocess"): {"roles/pubsub.publisher"},
        ("pubsub topics img-classified", "darkroom-classify"): {"roles/pubsub.publisher"},
        ("run services classify-service", "darkroom-push"): {"roles/run.invoker"},
        (push, "gcp-sa-pubsub.iam.gserviceaccount.com"): {"roles/iam.serviceAccountTokenCreator"},
        ("pubsub topics img-preprocessed-dead", "gcp-sa-pubsub.iam.gserviceaccount.com"): {"roles/pubsub.publisher"},
        ("pubsub subscriptions img-preprocessed-push", "gcp-sa-pubsub.iam.gserviceaccount.com"): {"roles/pubsub.subscriber"},
        ("artifacts repositories darkroom", "darkroom-deploy"): {"roles/artifactregistry.writer"},
        ("run services preprocess-service", "darkroom-deploy"): {"roles/run.developer", "roles/run.invoker"},
        ("run services classify-service", "darkroom-deploy"): {"roles/run.developer", "roles/run.invoker"},
        (account.format("darkroom-preprocess"), "darkroom-deploy"): {"roles/iam.serviceAccountUser"},
        (account.format("darkroom-classify"), "darkroom-deploy"): {"roles/iam.serviceAccountUser"},
        (account.format("darkroom-deploy"), "principalSet://iam.googleapis.com/projects/123456789/locations/global/"
         "workloadIdentityPools/darkroom-github/attribute.repository/me/darkroom"): {"roles/iam.workloadIdentityUser"},
    }


@pytest.mark.once
def test_public_only_when_asked(deployed):
    assert not [key for key in bindings(deployed.state()) if key[1] == "allUsers"]
    _, calls = deployed.run("deploy.sh", PUBLIC="1")
    assert len(changes(calls)) == 2
    assert bindings(deployed.state())[("run services preprocess-service", "allUsers")] == {"roles/run.invoker"}


@pytest.mark.once
def test_only_what_differs_is_brought_up_to_date(deployed):
    _, calls = deployed.run("deploy.sh", MAX_INSTANCES="3", RETENTION_DAYS="7")
    assert [line.split()[:3] for line in changes(calls)] == [
        ["storage", "buckets", "update"], ["run", "services", "replace"], ["run", "services", "replace"]]
    assert deployed.state()["storage buckets gs://darkroom-b"]["lifecycle_config"]["rule"][0]["condition"] == {"age": 7}
    _, calls = deployed.run("deploy.sh", "--only", "bucket,services", MAX_INSTANCES="3", RETENTION_DAYS="0")
    assert changes(calls) == ["storage buckets update gs://darkroom-b --clear-lifecycle"]
    _, calls = deployed.run("deploy.sh", "--only", "bucket,services", MAX_INSTANCES="3", RETENTION_DAYS="")
    assert changes(calls) == []


def image(state, name):
    return state["run services " + name]["spec"]["template"]["spec"]["containers"][0]["image"]


@pytest.mark.once
def test_the_deployed_image_stays_until_another_is_asked_for(deployed):
    registry = "europe-west1-docker.pkg.dev/darkroom-test/darkroom/"
    assert image(deployed.state(), "preprocess-service") == registry + "preprocess-service:latest"
    digest = registry + "preprocess-service@sha256:" + "0" * 64
    _, calls = deployed.run("deploy.sh", PREPROCESS_IMAGE=digest)
    assert len(changes(calls)) == 1 and image(deployed.state(), "preprocess-service") == digest
    _, calls = deployed.run("deploy.sh", "--only", "services")
    assert changes(calls) == []
    deployed.run("deploy.sh", "--only", "services", MAX_INSTANCES="5")
    assert image(deployed.state(), "preprocess-service") == digest


@pytest.mark.once
def test_dry_run_prints_every_command_and_runs_none(cloud, deployed_once):
    told, calls = cloud.run("deploy.sh", "--dry-run")
    assert calls == []
    printed = [line for line in told.splitlines() if line.startswith("+ gcloud")]
    assert len(printed) == len(changes(deployed_once[1]))
    (cloud.folder / "state.json").write_text(json.dumps(deployed_once[0]))
    told, calls = cloud.run("remove.sh", "--dry-run", "--delete-data")
    assert calls == []
    printed = [line for line in told.splitlines() if line.startswith("+ gcloud")]
    _, calls = cloud.run("remove.sh", "--yes", "--delete-data")
    assert len(printed) == len(changes(calls))


@pytest.mark.once
def test_removal_asks_and_leaves_the_data(deployed):
    before = deployed.state()
    told, calls = deployed.run("remove.sh", status=1, given="no\n")
    assert (deployed.state(), changes(calls)) == (before, []) and "nothing removed" in told
    deployed.run("remove.sh", given="yes\n")
    left = {key for key in deployed.state() if not key.startswith(("policy", "revisions", "apis"))}
    # a pool takes its providers with it
    assert left == {"storage buckets gs://darkroom-b", "iam workload-identity-pools providers github"}
    _, calls = deployed.run("remove.sh", "--yes")
    assert changes(calls) == []
    deployed.run("remove.sh", "--yes", "--delete-data")
    assert "storage buckets gs://darkroom-b" not in deployed.state()


@pytest.mark.once
@pytest.mark.parametrize("script", ["deploy.sh", "remove.sh"])
def test_mistakes_are_named(cloud, script):
    told, calls = cloud.run(script, "--nonsense", status=1)
    assert "--nonsense" in told and not calls
    for name in ("PROJECT_ID", "REGION", "REPO", "BUCKET"):
        told, calls = cloud.run(script, status=1, **{name: ""})
        assert name in told and not calls
    told, _ = cloud.run(script, "--help")
    assert "--dry-run" in told and "PROJECT_ID" in told


@pytest.mark.once
@pytest.mark.parametrize("env", [{"RETENTION_DAYS": "a month"}, {"RETENTION_DAYS": "-1"}, {"RETENTION_DAYS": "08"},
                                 {"GITHUB_REPOSITORY": "darkroom"}, {"GITHUB_REPOSITORY": "a/b' || true"}])
def test_values_that_cannot_be(cloud, env):
    """Told before anything is asked or made."""
    told, calls = cloud.run("deploy.sh", status=1, **env)
    assert next(iter(env)) in told and not calls


@pytest.mark.once
def test_a_gcloud_that_fails_is_not_taken_for_a_project_without_anything(cloud):
    """Denied is not "not found": nothing is created on top."""
    (cloud.folder / "bin/gcloud").unlink()
    (cloud.folder / "bin/gcloud").write_text("#!/bin/sh\necho \"$@\" >>$FAKE_GCLOUD/calls2\n"
                                            "[ $1 = projects ] && echo 1 && exit\necho PERMISSION_DENIED >&2; exit 1\n")
    (cloud.folder / "bin/gcloud").chmod(0o755)
    told, _ = cloud.run("deploy.sh", status=-15)
    assert "PERMISSION_DENIED" in told
    assert len((cloud.folder / "calls2").read_text().splitlines()) == 2


# --- the YAML ------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("name", ["preprocess-service", "classify-service"])
def test_service_yaml(deployed, name):
    service = deployed.state()["run services " + name]
    assert (service["apiVersion"], service["kind"], service["metadata"]["name"]) == ("serving.knative.dev/v1", "Service", name)
    template = service["spec"]["template"]
    notes, spec = template["metadata"]["annotations"], template["spec"]
    container, = spec["containers"]
    assert notes["run.googleapis.com/execution-environment"] == "gen2"
    assert (notes["autoscaling.knative.dev/minScale"], notes["autoscaling.knative.dev/maxScale"]) == ("0", "10")
    assert 1 < spec["containerConcurrency"] < 80
    env = {row["name"]: row["value"] for row in container["env"]}
    assert all(isinstance(value, str) and "$" not in value for value in env.values())
    grace, timeout = int(env["SHUTDOWN_GRACE_MS"]), 30000  # REQUEST_TIMEOUT_MS
    assert grace < 10000 and spec["timeoutSeconds"] * 1000 > timeout
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": 8080}
    assert container["ports"] == [{"name": "h2c", "containerPort": 8080}]
    # the memory arithmetic in the file's head: bodies and decodes fit, with room for the process
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    need = int(env["BODY_BUDGET_BYTES"]) + int(env["DECODE_BUDGET_BYTES"])
    assert need + 250 * 1024 * 1024 < 1024 ** 3
    expected = {"BUCKET": "darkroom-b", "GOOGLE_CLOUD_PROJECT": "darkroom-test"}
    if name == "classify-service":
        expected |= {"CLASS_TOPIC": "img-classified"}
    else:
        expected |= {"PREP_TOPIC": "img-preprocessed", "RESULTS_BASE_URL": URL}
    assert env | expected == env
    account = name.replace("-service", "").join(["darkroom-", "@darkroom-test.iam.gserviceaccount.com"])
    assert spec["serviceAccountName"] == account


@pytest.mark.once
def test_http_1_1_to_the_services_when_asked(deployed):
    """Nothing else differs: the probes are HTTP/1.1 before, too."""
    names = ["run services preprocess-service", "run services classify-service"]
    before = [deployed.state()[name]["spec"]["template"]["spec"]["containers"][0] for name in names]
    _, calls = deployed.run("deploy.sh", HTTP2="0")
    assert len(changes(calls)) == 2
    after = [deployed.state()[name]["spec"]["template"]["spec"]["containers"][0] for name in names]
    assert after == [container | {"ports": [{"name": "http1", "containerPort": 8080}]} for container in before]
    told, _ = deployed.run("deploy.sh", HTTP2="yes", status=1)
    assert "HTTP2: neither 0 nor 1" in told


@pytest.mark.parametrize("name", ["preprocess-service", "classify-service"])
def test_the_service_takes_its_environment(deployed, tmp_path, name, services):
    """The variables in the YAML are ones that the real binary starts with, on Cloud Run."""
    spec = deployed.state()["run services " + name]["spec"]["template"]["spec"]["containers"][0]
    service = Service(name, tmp_path)
    for variable in ("STORAGE_URL", "OUTBOX_PATH", "CATALOGUE_URL"):
        service.env.pop(variable, None)
    service.env |= {row["name"]: row["value"] for row in spec["env"]} | {"K_SERVICE": name}
    # nothing of Google's is asked
    service.env |= {"STORAGE_EMULATOR_HOST": "127.0.0.1:9", "PUBSUB_EMULATOR_HOST": "127.0.0.1:9"}
    services.append(service)
    service.start()  # which asks /healthz over HTTP/1.1, as the probes do
    assert curl(service, "/healthz")[0] == 200  # over HTTP/2, as Cloud Run's front end does
    told = subprocess.run([BUILD / name, "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^  ([A-Z][A-Z0-9_]+)", told, re.M))
    assert {row["name"] for row in spec["env"]} <= known




# --- gcloud --------------------------------------------------------------------------------------


@pytest.mark.once
@needs_sdk
def test_gcloud_takes_every_line(deployed, deployed_once):
    """All that the scripts run, reads included, through the real parser; the YAML through its message types."""
    keep = deployed.folder / "keep"
    keep.mkdir()
    lines = list(deployed_once[1])
    for script, arguments, env in (
            ("deploy.sh", [], {"PUBLIC": "1", "RETENTION_DAYS": "0"}),
            ("traffic.sh", ["serving"], {}), ("traffic.sh", ["urls"], {}), ("traffic.sh", ["shift"], {}),
            ("traffic.sh", ["restore", "preprocess-service-1", "classify-service-1"], {}),
            ("remove.sh", ["--yes", "--delete-data"], {})):
        lines += deployed.run(script, *arguments, **env)[1]
        for name in ("preprocess-service", "classify-service"):
            service = deployed.state().get("run services " + name)
            if service:
                service.pop("status")
                (keep / f"{name}.yaml").write_text(yaml.safe_dump(service))
    # its files are gone by now
    (keep / "lifecycle.json").write_text("{}")
    update = [words for words in lines if words[:4] == ["pubsub", "subscriptions", "create", "img-preprocessed-push"]][0]
    lines.append([{"create": "update"}.get(w, w) for w in update if not w.startswith("--topic=")])
    lines = [[re.sub(r"/tmp/[^/]+/", f"{keep}/", word) for word in words] for words in lines]
    assert len(lines) > 80
    files = sorted(str(path) for path in keep.glob("*.yaml"))
    assert len(files) == 2
    # that it would tell
    (keep / "bad.yaml").write_text((keep / "classify-service.yaml").read_text().replace("containerConcurrency", "concurrency"))
    bad = [["run", "services", "replace", files[0], "--nope"], ["pubsub", "topics", "make", "x"],
           ["pubsub", "subscriptions", "create", "abc"]]
    asked = {"lines": lines + bad, "services": [*files, str(keep / "bad.yaml")]}
    done = subprocess.run([SDK_PYTHON, ROOT / "tests/integration/gcloud_grammar.py", SDK], input=json.dumps(asked),
                          capture_output=True, text=True, timeout=300 * SLOW, check=True,
                          env={"HOME": str(deployed.folder), "PATH": os.environ["PATH"]})
    assert [what for what, _ in json.loads(done.stdout)] == [*bad, str(keep / "bad.yaml")], done.stdout


@contextlib.contextmanager
def real_gcloud(cloud):
    """What the cloud's $REAL_GCLOUD names, with the cloud's settings."""
    with subprocess.Popen([SDK_PYTHON, ROOT / "tests/integration/real_gcloud.py", SDK, cloud.env["REAL_GCLOUD"]],
                          env=cloud.env, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == "ready\n"
            yield
        finally:
            server.terminate()


@pytest.mark.once
@needs_sdk
def test_pubsub_by_the_real_gcloud(tmp_path):
    """Made on the emulator, made again (nothing changes), mended after somebody changed it, and removed."""
    try:
        emulator = PubsubEmulator(tmp_path)
    except servers.Unavailable as reason:
        pytest.skip(f"THE DEPLOYMENT'S PUB/SUB PART WAS NOT TRIED: {reason}")
    with emulator as pubsub, contextlib.ExitStack() as loaded:
        cloud = Cloud(tmp_path, REAL_GCLOUD=str(tmp_path / "gcloud"), CLOUDSDK_CONFIG=str(tmp_path / "config"),
                      CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB=f"http://{pubsub.place}/",
                      CLOUDSDK_AUTH_DISABLE_CREDENTIALS="true", CLOUDSDK_CORE_CHECK_GCE_METADATA="false",
                      CLOUDSDK_CORE_DISABLE_USAGE_REPORTING="true", PROJECT_NUMBER="123456789")

        def there():
            return {kind: pubsub.call("GET", f"projects/darkroom-test/{kind}").get(kind, [])
                    for kind in ("topics", "subscriptions")}

        loaded.enter_context(real_gcloud(cloud))
        only = ["--only", "topics,subscription"]
        cloud.run("deploy.sh", *only)
        made = there()
        names = [topic["name"].rsplit("/", 1)[1] for topic in made["topics"]]
        assert sorted(names) == ["img-classified", "img-preprocessed", "img-preprocessed-dead"]
        by_name = {row["name"].rsplit("/", 1)[1]: row for row in made["subscriptions"]}
        assert set(by_name) == {"img-preprocessed-push", "img-preprocessed-dead-pull"}
        push = by_name["img-preprocessed-push"]
        assert push["topic"].endswith("/img-preprocessed")
        assert push["pushConfig"]["pushEndpoint"] == URL + "/pubsub"
        assert push["pushConfig"]["oidcToken"] == {
            "serviceAccountEmail": "darkroom-push@darkroom-test.iam.gserviceaccount.com", "audience": URL}
        assert push["deadLetterPolicy"] == {
            "deadLetterTopic": "projects/darkroom-test/topics/img-preprocessed-dead", "maxDeliveryAttempts": 100}
        assert push["retryPolicy"] == {"minimumBackoff": "10s", "maximumBackoff": "600s"}
        assert push["ackDeadlineSeconds"] == 60 and not push.get("expirationPolicy", {}).get("ttl")
        assert by_name["img-preprocessed-dead-pull"]["topic"].endswith("/img-preprocessed-dead")

        _, calls = cloud.run("deploy.sh", *only)
        assert changes(calls) == [] and there() == made
        # elsewhere now: brought up to date by one command
        _, calls = cloud.run("deploy.sh", "--only", "subscription", CLASSIFY_URL="https://elsewhere.example")
        assert [line.split()[:3] for line in changes(calls)] == [["pubsub", "subscriptions", "update"]]
        changed = next(row for row in there()["subscriptions"] if row["name"].endswith("-push"))
        assert changed["pushConfig"]["pushEndpoint"] == "https://elsewhere.example/pubsub"

        cloud.run("remove.sh", "--yes")
        assert there() == {"topics": [], "subscriptions": []}


# --- the smoke test and the traffic ---------------------------------------------------------------


def smoke(picture, stack, status, **env):
    env = {"PATH": os.environ["PATH"], "PREPROCESS_URL": stack.preprocess.url, "CLASSIFY_URL": stack.classify.url,
           "SMOKE_TIMEOUT_S": "20", "no_proxy": "*"} | env
    done = subprocess.run([CLOUDRUN / "smoke_test.sh", picture], env=env, capture_output=True, text=True, check=False,
                          timeout=60 * SLOW)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def draw(tmp_path, seed):
    path = tmp_path / f"{seed}.png"
    subprocess.run([sys.executable, CLOUDRUN / "draw_picture.py", seed, path], check=True)
    return path


def test_smoke_test(tmp_path, stack):
    picture = draw(tmp_path, "a")
    assert draw(tmp_path, "b").read_bytes() != picture.read_bytes()
    told = smoke(picture, stack, 0, PREPROCESS_TOKEN="some-token", CLASSIFY_TOKEN="another")
    assert re.search(r"smoke test: file://\S+\.jpg is labelled \w+", told)
    (tmp_path / "text.png").write_text("not a picture")
    assert "415" in smoke(tmp_path / "text.png", stack, 1)
    smoke(tmp_path / "none.png", stack, 2)


def test_smoke_test_without_labels(tmp_path, services):
    """Events that lead nowhere: told, in time."""
    stack = Stack(tmp_path, preprocess_env={})
    stack.preprocess.env["EVENTS_URL"] = "none:"
    services.append(stack)
    stack.start()
    assert "no result" in smoke(draw(tmp_path, "a"), stack, 1, SMOKE_TIMEOUT_S="1")
    told = smoke(draw(tmp_path, "b"), stack, 1, CLASSIFY_URL=stack.preprocess.url)
    assert "404" in told


@pytest.mark.once
def test_traffic(cloud, deployed_once):
    told, _ = cloud.run("traffic.sh", "serving", status=1)
    assert "deploy.sh" in told
    (cloud.folder / "state.json").write_text(json.dumps(deployed_once[0]))
    told, _ = cloud.run("traffic.sh", "serving")
    assert told.split() == ["preprocess=preprocess-service-00001", "classify=classify-service-00000"]
    told, _ = cloud.run("traffic.sh", "urls")
    assert f"classify={URL}\nclassify_candidate={URL.replace('//', '//candidate---')}\n" in told
    _, calls = cloud.run("traffic.sh", "shift")
    assert [words[3] for words in calls] == ["classify-service", "preprocess-service"]
    assert all("--to-latest" in words for words in calls)
    _, calls = cloud.run("traffic.sh", "restore", "p-1", "c-1")
    assert [(words[3], words[5]) for words in calls] == [
        ("preprocess-service", "--to-revisions=p-1=100"), ("classify-service", "--to-revisions=c-1=100")]
    cloud.run("traffic.sh", "restore", "p-1", "", status=1)
    cloud.run("traffic.sh", "nonsense", status=2)
