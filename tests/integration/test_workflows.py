"""The workflows keep the rules: pinned actions, least permissions, no keys, no traffic before the smoke test."""
import re
import subprocess

import pytest
import yaml

from conftest import ROOT
from tools import go_tool

pytestmark = pytest.mark.once
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.7"
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path):
    workflow = yaml.safe_load(path.read_text())
    workflow["on"] = workflow.pop(True)  # YAML 1.1 takes the key "on" for a boolean
    return workflow


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def test_both_are_there():
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "deploy.yml"]


@each
def test_actions_are_pinned_by_commit(path):
    """With the version behind it, for whoever updates it."""
    used = re.findall(r"^\s*(?:- )?uses: *(.*)$", path.read_text(), re.M)
    assert used
    pins = {}
    for what in used:
        if what.startswith("./"):
            assert (ROOT / what).is_file()
            continue
        match = re.fullmatch(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", what)
        assert match, what
        assert pins.setdefault(match[1], what) == what, "two versions of one action"


@each
def test_permissions_are_the_least(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        allowed = {"contents": "read"}
        if path.name == "deploy.yml" and name in ("build", "deploy"):
            allowed["id-token"] = "write"
        if path.name == "deploy.yml" and name == "build":
            allowed["attestations"] = "write"
        assert job.get("permissions", {"contents": "read"}) == allowed, name


@each
def test_no_keys(path):
    text = path.read_text()
    for word in ("credentials_json", "secrets.", "service_account_key", "private_key", "pull_request_target",
                 "allow-unauthenticated"):
        assert word not in text
    for step in steps(load(path)):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        # what others can write (a branch's name, a title) reaches a shell only through its environment
        assert "${{" not in step.get("run", ""), step


@each
def test_jobs_end_and_do_not_pile_up(path):
    workflow = load(path)
    assert workflow["concurrency"]["group"]
    for name, job in workflow["jobs"].items():
        assert "uses" in job or 0 < job["timeout-minutes"] <= 60, name


def test_ci():
    workflow = load(ROOT / ".github/workflows/ci.yml")
    assert {"push", "pull_request", "workflow_call", "schedule"} == set(workflow["on"])
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert set(matrix["make"]) == {"lint", "test", "asan", "tsan"} and matrix["include"] == [{"debian": "trixie", "make": "test"}]
    assert "make compose-test" in [step.get("run") for step in workflow["jobs"]["compose"]["steps"]]
    targets = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in [*matrix["make"], "compose-test"]:
        assert re.search(rf"^{target}\b|\b{target}\b", targets, re.M), target


def position(job, what):
    """Of the first step that does it."""
    for n, step in enumerate(job["steps"]):
        if what in step.get("uses", "") + step.get("run", "") + step.get("name", ""):
            return n
    raise AssertionError(what)


def test_deploy():
    workflow = load(ROOT / ".github/workflows/deploy.yml")
    jobs = workflow["jobs"]
    assert workflow["on"] == {"push": {"branches": ["main"]}, "workflow_dispatch": None}
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert jobs["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert (jobs["build"]["needs"], jobs["deploy"]["needs"]) == ("ci", "build")

    build = [s for s in jobs["build"]["steps"] if s.get("uses", "").startswith("docker/build-push-action@")]
    assert len(build) == 2
    for step in build:
        options = step["with"]
        assert (options["push"], options["sbom"], options["provenance"]) == (True, True, "mode=max")
        assert (ROOT / options["file"]).is_file()

    deploy = jobs["deploy"]
    candidates = [s["with"] for s in deploy["steps"] if s.get("uses", "").startswith("google-github-actions/deploy-cloudrun@")]
    assert {c["service"] for c in candidates} == {"preprocess-service", "classify-service"}
    for options in candidates:
        short = options["service"].removesuffix("-service")
        assert options["image"].endswith(f"/{options['service']}@${{{{ needs.build.outputs.{short} }}}}")
        assert (options["no_traffic"], options["tag"]) == (True, "candidate")
    for step in steps(workflow):
        if step.get("uses", "").startswith("google-github-actions/auth@"):
            assert step["with"]["workload_identity_provider"] and step["with"]["service_account"]
    order = [position(deploy, what) for what in (
        "actions/checkout", "google-github-actions/auth", "traffic.sh serving", "deploy-cloudrun", "traffic.sh urls",
        "Smoke test of the candidates", "traffic.sh shift", "Smoke test with the traffic", "traffic.sh restore")]
    assert order == sorted(order)
    back = deploy["steps"][-1]
    assert "failure()" in back["if"] and "cancelled()" in back["if"]
    for step in steps(workflow):
        for script in re.findall(r"infra/\S+\.(?:sh|py)", step.get("run", "")):
            assert (ROOT / script).is_file()


def test_actionlint():
    actionlint = go_tool(ACTIONLINT, "the workflows were checked by our own rules only")
    done = subprocess.run([actionlint, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
