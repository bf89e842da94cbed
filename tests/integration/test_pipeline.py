"""The main job: upload in, label out."""
import json
import subprocess

import pytest

from conftest import PHOTOS
from images import decode, encode, gradient

pytestmark = pytest.mark.threads


def test_upload_push_result(stack):
    photo = PHOTOS / "n02099601_golden_retriever.JPEG"
    data = photo.read_bytes() if photo.exists() else encode(gradient(500, 375))
    reply = stack.preprocess.upload(data)
    assert reply.status == 200, reply
    stored = reply.json()
    assert stored["gcs_path"] == f"file://{stack.objects}/{stored['id']}.jpg"
    assert decode(stack.preprocess.get("/images/" + stored["id"]).body).size == (256, 256)
    result = stack.result(stored)
    assert result["gcs_path"] == stored["gcs_path"]
    posted = stack.classify.request("POST", "/classify", reply.body, {"Content-Type": "application/json"})
    assert posted.json()["label"] == result["label"]
    assert result["label"] == "golden retriever" or not photo.exists()


def test_same_upload_is_the_same_object(stack):
    data = encode(gradient())
    first, second = (stack.preprocess.upload(data).json() for _ in range(2))
    assert first["id"] == second["id"]
    stack.result(first)
    assert len(list(stack.objects.glob("*.jpg"))) == 1
    assert len(list(stack.objects.glob("*.jpg.json"))) == 1


@pytest.mark.parametrize("service", ["preprocess", "classify"])
def test_shared_routes(request, service):
    service = request.getfixturevalue(service)
    assert service.get("/").json()["name"] == service.name
    assert service.get("/healthz").json() == {"status": "alive"}
    assert service.get("/readyz").json() == {"status": "ready"}
    assert "/healthz" in service.get("/openapi.json").json()["paths"]
    assert service.get("/metrics").headers["Content-Type"].startswith("text/plain")


SHELL_CLIENT = r"""
set -euo pipefail
reply=$(curl -sSf --noproxy '*' -X POST "$PREPROCESS_URL/preprocess" -F "file=@$1")
curl -sSf --noproxy '*' -X POST "$CLASSIFY_URL/classify" -H "Authorization: Bearer $TOKEN" \
    -H "Content-Type: application/json" -d "$reply"
"""


def test_a_shell_client_of_the_python_original(stack, tmp_path):
    """It posts the file, then the whole reply, with the bearer header that Cloud Run's IAM wants."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(encode(gradient()))
    done = subprocess.run(
        ["bash", "-c", SHELL_CLIENT, "client", photo], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin", "PREPROCESS_URL": stack.preprocess.url, "CLASSIFY_URL": stack.classify.url,
             "TOKEN": "an-identity-token"})
    assert done.returncode == 0, done.stderr
    assert {"label", "confidence"} <= json.loads(done.stdout).keys()
