"""gRPC calls by grpcio, as bytes."""
import grpc
import pytest

from conftest import SLOW

CODE = grpc.StatusCode


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
