"""The peer of floor_front.c's bench.Bench, on python's grpcio: peer_grpc.py PORT. Run by an interpreter that has
it (request_cost.py)."""
import concurrent.futures
import sys

import grpc
from google.protobuf import empty_pb2, wrappers_pb2


def take(message, context):
    if not message.value:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no bytes")
    return empty_pb2.Empty()


def upload(messages, context):
    if not bytearray().join(message.value for message in messages):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no bytes")
    return empty_pb2.Empty()


server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 1 << 25)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Bench", {
    "In": grpc.unary_unary_rpc_method_handler(take, wrappers_pb2.BytesValue.FromString, empty_pb2.Empty.SerializeToString),
    "Upload": grpc.stream_unary_rpc_method_handler(upload, wrappers_pb2.BytesValue.FromString, empty_pb2.Empty.SerializeToString)})])
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
