"""darkroom.v1.Catalogue: what /v1/images does, as calls. test_access.py has who may call what."""
import base64
import functools
import os
import subprocess

import grpc
import pytest

import calls
from accounts import PASSWORD, USERS, bearer, join, token_of
from calls import CODE
from conftest import SLOW, wait_for
from images import encode, gradient, numbered_jpeg

pytestmark = [pytest.mark.memory, pytest.mark.threads]

PICTURE = encode(gradient(), quality=85)


class Catalogue:
    def __init__(self, service, messages, token=None):
        self.service, self.m, self.token = service, messages("darkroom.v1.catalogue"), token

    def raw(self, method, data):
        metadata = [(name.lower(), value) for name, value in bearer(self.token).items()]
        return calls.raw(self.service, "/darkroom.v1.Catalogue/" + method, data, metadata=metadata)[0]

    def ask(self, method, reply, **fields):
        request = getattr(self.m, method + "Request")(**fields)
        return getattr(self.m, reply).FromString(self.raw(method, request.SerializeToString()))

    def list(self, **fields):
        return self.ask("List", "ListResponse", **fields)

    def get(self, id_):
        return self.ask("Get", "StoredImage", id=id_)

    def change(self, id_, tags=None, **fields):
        if tags is not None:
            fields["tags"] = self.m.ChangeRequest.Tags(tags=tags)
        return self.ask("Change", "StoredImage", id=id_, **fields)

    def delete(self, id_):
        return self.ask("Delete", "DeleteResponse", id=id_)


@pytest.fixture(name="user")
def fixture_user(messages):
    """user(service, token=None): calls of the catalogue"""
    return functools.partial(lambda messages, service, token=None: Catalogue(service, messages, token), messages)


def as_rest(image):
    """The message as the JSON of /v1/images."""
    fields = {field.name: getattr(image, field.name) for field in image.DESCRIPTOR.fields}
    return fields | {name: fields[name] or None for name in ("owner", "label", "confidence")} | {
        "tags": [{"tag": tag.tag, "confidence": tag.confidence or None} for tag in image.tags]}


def upload(service, n, token=None):
    reply = service.post_image("/preprocess", numbered_jpeg(n, PICTURE), **bearer(token))
    assert reply.status == 200, reply
    return reply.json()["id"]


def test_a_picture_is_that_of_rest(shared, user):
    catalogue = user(shared.preprocess)
    id_ = shared.preprocess.upload(encode(gradient(70, 30)), "?width=64&height=48&format=png").json()["id"]
    shared.result({"id": id_})
    assert as_rest(catalogue.change(id_, tags=["one", "zwei \u00fc"], note="a note"))["note"] == "a note"
    shared.preprocess.get(f"/images/{id_}")

    def labelled():
        found = shared.preprocess.get(f"/v1/images/{id_}").json()
        return found["label"] and found["views"] and found
    rest = wait_for(labelled, "label and view")
    assert as_rest(catalogue.get(id_)) == rest
    assert as_rest(catalogue.list(tag="zwei \u00fc").images[0]) == rest
    assert [i.id for i in catalogue.list(label=rest["label"], limit=200).images].count(id_) == 1


def test_pages(start, user):
    service = start()
    catalogue = user(service)
    assert not catalogue.list().images
    ids = [upload(service, n) for n in range(7)][::-1]
    found, before = [], 0
    while True:
        page = catalogue.list(limit=3, before=before)
        found += [image.id for image in page.images]
        before = page.next
        if not before:
            break
        assert len(page.images) == 3
    assert found == ids == [image.id for image in catalogue.list().images]
    assert not catalogue.list(label="no such label").images and not catalogue.list(owner="me").images


def test_a_change_keeps_what_it_does_not_name(start, user):
    service = start()
    catalogue, id_ = user(service), upload(service, 1)
    catalogue.change(id_, tags=["a", "b"], note="x")
    assert [tag.tag for tag in catalogue.change(id_, note="").tags] == ["a", "b"]
    got = catalogue.change(id_, tags=[])
    assert not got.tags and got.note == ""
    catalogue.change(id_, note="y")
    assert catalogue.change(id_).note == "y"
    catalogue.delete(id_)
    assert calls.code_of(catalogue.get, id_)[0] == CODE.NOT_FOUND
    assert service.get(f"/images/{id_}").status == 404


def test_errors(start, user):
    service = start()
    catalogue, id_ = user(service), upload(service, 1)

    def refused(method, *args, **fields):
        code, details, _ = calls.code_of(method, *args, **fields)
        return code, details
    for fields, why in (({"limit": 201}, "limit"), ({"limit": -1}, "limit"), ({"before": -1}, "before")):
        code, details = refused(catalogue.list, **fields)
        assert code == CODE.INVALID_ARGUMENT and why in details
    for fields, why in (({"tags": [""]}, "tags"), ({"tags": ["x" * 129]}, "tags"), ({"tags": ["x"] * 65}, "tags"),
                        ({"note": "x" * 4097}, "note")):
        code, details = refused(catalogue.change, id_, **fields)
        assert code == CODE.INVALID_ARGUMENT and why in details
    for unknown in ("", "x", "0" * 64, id_ + ".jpg"):
        for method in (catalogue.get, catalogue.change, catalogue.delete):
            assert refused(method, unknown) == (CODE.NOT_FOUND, "no such image")
    # no client's library writes these: a text that is not UTF-8
    of = b"\x0a\x40" + id_.encode()
    for method, data in (("List", b"\x0a\1\xff"), ("List", b"\x12\1\xff"), ("List", b"\x1a\1\xff"),
                         ("Change", of + b"\x12\1\xff"), ("Change", of + b"\x1a\3\x0a\1\xff")):
        code, details = refused(catalogue.raw, method, data)
        assert code == CODE.INVALID_ARGUMENT and "not UTF-8" in details
    assert catalogue.get(id_).note == "" and not catalogue.get(id_).tags
    without = user(start(CATALOGUE_URL="none:"))
    for method, *args in ((without.list,), (without.get, id_), (without.change, id_), (without.delete, id_)):
        code, details = refused(method, *args)
        assert code == CODE.NOT_FOUND and "CATALOGUE_URL" in details


def seal(service, messages, token):
    """The id of a picture that is sealed in one call, and in a stream; Transform stores nothing to seal."""
    images = messages("darkroom.v1.images")
    request = images.ImageRequest(image=PICTURE, options={"seal": "1"}).SerializeToString()
    metadata = [("authorization", f"Bearer {token}")]
    one = images.PreprocessResponse.FromString(
        calls.raw(service, "/darkroom.v1.Images/Preprocess", request, metadata=metadata)[0])
    with grpc.insecure_channel(f"{service.host}:{service.port}") as channel:
        streamed = images.PreprocessResponse.FromString(
            channel.stream_unary("/darkroom.v1.Images/Upload")(iter([request]), timeout=60 * SLOW, metadata=metadata))
    assert one.id == streamed.id and "/sealed/" in one.gcs_path
    for method, value, why in (("Transform", "1", "seal: no such option"), ("Preprocess", "x", "seal must be 0 or 1")):
        request = images.ImageRequest(image=PICTURE, options={"seal": value}).SerializeToString()
        code, details, _ = calls.code_of(calls.raw, service, "/darkroom.v1.Images/" + method, request, metadata=metadata)
        assert (code, details) == (CODE.INVALID_ARGUMENT, why)
    return one.id


def test_owners_admins_and_sealed_pictures(start, user, messages, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    service = start(**USERS, SEAL_KEYS_FILE=keys)
    subprocess.run([service.program, "--users", "add", "root"], input=PASSWORD, text=True, check=True, env=service.env,
                   cwd=service.folder)
    tokens = {name: join(service, name) for name in ("alice", "bob")} | {"root": token_of(service, "root")}
    alice, bob, root = (user(service, tokens[name]) for name in ("alice", "bob", "root"))
    id_, sealed = upload(service, 1, tokens["alice"]), seal(service, messages, tokens["alice"])
    assert sealed == service.post_image("/preprocess?seal=1", PICTURE, **bearer(tokens["alice"])).json()["id"]
    assert calls.code_of(user(service).list)[0] == CODE.UNAUTHENTICATED
    assert [i.id for i in alice.list(owner="me").images] == [sealed, id_] and not bob.list(owner="me").images
    for other in (bob, root):  # a sealed one is nobody else's to see
        assert [i.id for i in other.list().images] == [id_]
        assert calls.code_of(other.get, sealed)[0] == CODE.NOT_FOUND
    assert bob.get(id_).owner == "alice" and alice.get(sealed).sealed
    for method in (bob.change, bob.delete):
        assert calls.code_of(method, id_)[0] == CODE.PERMISSION_DENIED
        assert calls.code_of(method, sealed)[0] == CODE.NOT_FOUND
    assert root.change(id_, note="by root").note == alice.get(id_).note == "by root"
    assert calls.code_of(root.change, sealed, note="by root")[0] == CODE.NOT_FOUND and alice.get(sealed).note == ""
    root.delete(sealed)  # without having seen it
    alice.delete(id_)
    assert not alice.list().images
