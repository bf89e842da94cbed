"""gRPC calls by grpcio, as bytes and with the messages of common/grpc/proto."""
import importlib
import subprocess
import sys

import grpc
import pytest

from conftest import ROOT, SLOW

PROTO = ROOT / "common/grpc/proto"
CODE = grpc.StatusCode


@pytest.fixture(scope="session", name="messages")
def fixture_messages(tmp_path_factory):
    """messages("darkroom.v1.images"): the Python module of a .proto."""
    folder = tmp_path_factory.mktemp("proto")
    files = [str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto")]
    subprocess.run(["protoc", f"--proto_path={PROTO}", f"--python_out={folder}", *files], check=True)
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(name + "_pb2")
    sys.path.remove(str(folder))


def raw(service, method, message, timeout=60, compression=None, metadata=(), **options):
    """(the reply's bytes, its trailers); grpc.RpcError"""
    with grpc.insecure_channel(f"{service.host}:{service.port}", list(options.items())) as channel:
        reply, call = channel.unary_unary(method).with_call(
            message, timeout=timeout and timeout * SLOW, compression=compression, metadata=metadata)
        return reply, dict(call.trailing_metadata())


def code_of(function, *args, **kwargs):
    """(status code, details, trailers) of a call that fails."""
    with pytest.raises(grpc.RpcError) as failed:
        function(*args, **kwargs)
    return failed.value.code(), failed.value.details(), dict(failed.value.trailing_metadata())
