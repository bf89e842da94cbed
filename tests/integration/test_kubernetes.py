"""The overlays as kustomize renders them: valid, locked down, and in agreement with the services."""
import re
import shutil
import subprocess

import pytest
import yaml

from conftest import BUILD, ROOT
from tools import foreign_python, go_tool

FOLDER = ROOT / "infra/kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
SCORE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"
SERVICES = {"preprocess": 8000, "classify": 8001}
# for Prometheus, the kubelet and brokers
PRIVATE = {"/metrics", "/healthz", "/readyz", "/pubsub"}


@pytest.fixture(scope="module", params=OVERLAYS, name="rendered")
def fixture_rendered(request, tmp_path_factory):
    """(the overlay's name, the file)"""
    command = ["kubectl", "kustomize"] if shutil.which("kubectl") else [
        go_tool(KUSTOMIZE, "the overlays were not rendered"), "build"]
    done = subprocess.run([*command, FOLDER / "overlays" / request.param], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path = tmp_path_factory.mktemp("kubernetes") / f"{request.param}.yaml"
    path.write_text(done.stdout)
    return request.param, path


@pytest.fixture(name="objects")
def fixture_objects(rendered):
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(rendered[1].read_text())}


def of_kind(objects, *kinds):
    return {name: item for (kind, name), item in objects.items() if kind in kinds}


def workloads(objects):
    found = of_kind(objects, "Deployment", "StatefulSet")
    assert found.keys() == SERVICES.keys()
    return {name: (item, item["spec"]["template"]["spec"]) for name, item in found.items()}


def environment(pod):
    """(values by name, keys of the secret by name) that the container has by itself"""
    container, = pod["containers"]
    values = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    keys = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if "valueFrom" in entry}
    return values, keys


def test_kubernetes_accepts_it(rendered):
    python = foreign_python("kubernetes-validate==1.37.0")
    done = subprocess.run([python.parent / "kubernetes-validate", "--strict", rendered[1]], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kube_score_finds_nothing_critical(rendered):
    score = go_tool(SCORE, "the manifests were checked by our own rules only")
    done = subprocess.run([score, "score", "--output-format", "ci", rendered[1]], capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if not line.startswith(("[OK]", "[SKIPPED]"))]
    assert done.stdout.count("[OK]") > 20 and not found, found


def test_pods_are_locked_down(objects):
    for name, (item, pod) in workloads(objects).items():
        assert item["metadata"]["namespace"] == "darkroom"
        assert pod["automountServiceAccountToken"] is False and pod["serviceAccountName"] == name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001  # the Dockerfiles' user
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        container, = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
    labels = objects["Namespace", "darkroom"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_probes_and_time_to_leave(objects):
    for name, (_, pod) in workloads(objects).items():
        container, = pod["containers"]
        assert container["ports"] == [{"name": "http", "containerPort": SERVICES[name]}]
        paths = {probe: container[probe + "Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        settings = environment(pod)[0]
        notice_ms = int(settings["SHUTDOWN_NOTICE_MS"])
        # and a call to RabbitMQ that was under way at the end
        call_ms = int(re.search(r"AMQP_CALL_MS = (\d+)", (ROOT / "common/events/amqp/link.h").read_text())[1])
        leave_ms = notice_ms + int(settings["SHUTDOWN_GRACE_MS"]) + call_ms
        assert pod["terminationGracePeriodSeconds"] * 1000 > leave_ms + 2000
        # noticed before the notice ends
        probe = container["readinessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] * 1000 < notice_ms


def test_selectors_meet(objects):
    for name, (item, pod) in workloads(objects).items():
        labels = item["spec"]["template"]["metadata"]["labels"]
        assert objects["Service", name]["spec"]["selector"].items() <= labels.items()
        assert objects["Service", name]["spec"]["ports"][0]["port"] == SERVICES[name]
        assert objects["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert objects["NetworkPolicy", name]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]} | {
            claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
    assert objects["NetworkPolicy", "nothing-else"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_what_scales_may_go(rendered, objects):
    """An autoscaler takes instances away: only such as keep no events."""
    scaled = of_kind(objects, "HorizontalPodAutoscaler")
    assert "classify" in scaled
    for name, scaler in scaled.items():
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in objects and target["kind"] == "Deployment"
        assert "replicas" not in objects[target["kind"], target["name"]]["spec"]
        ours = {metric["type"]: metric[metric["type"].lower()]["metric"]["name"]
                for metric in scaler["spec"]["metrics"] if metric["type"] != "Resource"}
        assert len(ours) == len(scaler["spec"]["metrics"]) - 1
        broker = {"External": "broker_queue_length"} if (rendered[0], name) == ("rabbitmq", "classify") else {}
        assert ours == {"Pods": "worker_queue_depth"} | broker
        assert all(f'"{metric}", GAUGE' in (ROOT / "common/base/metrics.h").read_text() for metric in ours.values())
    settings, = of_kind(objects, "ConfigMap").values()
    keeps = settings["data"].get("EVENTS_URL", "").startswith("push+")
    assert (("StatefulSet", "preprocess") in objects) == keeps
    assert ("preprocess" in scaled) == (not keeps)


def test_settings_exist_and_are_no_secrets(objects):
    table = {}
    for service in SERVICES:
        text = subprocess.run([BUILD / f"{service}-service", "--help"], capture_output=True, text=True, check=True).stdout
        table |= {name: line for line in text.splitlines() for name in re.findall(r"^ *([A-Z][A-Z0-9_]+)\b", line)}
    settings, = of_kind(objects, "ConfigMap").values()
    open_to_see, kept = dict(settings["data"]), {}
    for _, pod in workloads(objects).values():
        values, keys = environment(pod)
        open_to_see |= values
        kept |= keys
        assert [list(source)[0] for source in pod["containers"][0]["envFrom"]] == ["configMapRef", "secretRef"]
    used = open_to_see.keys() | kept.keys()
    assert used <= table.keys(), used - table.keys()
    named = set(re.findall(r"`([A-Z][A-Z0-9]+_[A-Z0-9_]+)[`=]", (FOLDER / "README.md").read_text()))
    assert named <= table.keys(), named - table.keys()
    assert kept.keys() <= named and all(kept[name] == {"name": "darkroom", "key": name} for name in kept)
    # a URL is a secret when a password is in it
    assert not of_kind(objects, "Secret") and not any(
        "(secret" in table[name] and not ("://" in value and "@" not in value) for name, value in open_to_see.items())


def test_who_uses_rabbitmq_reaches_it(rendered, objects):
    expected = {"preprocess": "EVENTS_URL", "classify": "SOURCE_URL"} if rendered[0] == "rabbitmq" else {}
    for name, (_, pod) in workloads(objects).items():
        assert list(environment(pod)[1]) == [expected[name]] if expected else not environment(pod)[1]
        ports = {port["port"] for rule in objects["NetworkPolicy", name]["spec"]["egress"] for port in rule["ports"]}
        assert {443, 9000, 5432, 53} <= ports
        assert ports & {5671, 5672} == ({5671, 5672} if expected else set())
    settings, = of_kind(objects, "ConfigMap").values()
    assert expected or {"EVENTS_URL", "PREP_TOPIC"} & settings["data"].keys(), "the default is for one machine"


def test_the_ingress_is_the_public_routes(rendered, objects):
    paths = [(path["path"], path["pathType"], path["backend"]["service"]["name"])
             for item in of_kind(objects, "Ingress").values()
             for path in item["spec"]["rules"][0]["http"]["paths"]]
    private = PRIVATE - ({"/pubsub"} if rendered[0] == "google" else set())

    def server(route):
        """Whom the request reaches: the longest match, and of two the exact one."""
        found = [(len(path), kind, name) for path, kind, name in paths
                 if route == path or kind == "Prefix" and (route + "/").startswith(path + "/")]
        return max(found, key=lambda match: (match[0], match[1] == "Exact"))[2] if found else None

    public = {f"/{path.name}": ["preprocess"] for path in (ROOT / "preprocess_service/page").glob("page.*")
              if path.suffix != ".webp"}  # the README's picture
    assert len(public) > 4
    for service in SERVICES:
        text = (ROOT / f"{service}_service/routes.c").read_text()
        for route in set(re.findall(r'"(/[^"]*)"', text)) - {"/page.{ext}"}:
            public.setdefault(route, []).append(service)
    for route, services in public.items():
        assert server(route) in services if route not in private else server(route) is None, route
    for path, _, service in paths:
        assert any(service in services and (route + "/").startswith(path + "/") or route == path
                   for route, services in public.items()), path
    assert (server("/results"), server("/results/x")) == ("classify", "preprocess")  # which knows the owners
    for name, item in of_kind(objects, "Ingress").items():
        grpc = item["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/backend-protocol") == "GRPC"
        assert grpc == (name == "darkroom-grpc") and item["spec"]["tls"]
        assert "nginx.ingress.kubernetes.io/limit-rps" in item["metadata"]["annotations"]
