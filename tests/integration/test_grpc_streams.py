"""gRPC's streams: grpc.testing.TestService on our server (tests/programs/test_service.c), and those of the
services: Upload, Watch, reflection."""
import concurrent.futures
import gzip
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading

import grpc
import pytest
from PIL import Image

import h2_client as h2
from conftest import BUILD, ROOT, SLOW, kilobytes, wait_for
from images import encode, gradient
from servers import Unavailable, built_binary
from test_grpc import CODE, MIB, grpc_status, prefixed

pytestmark = [pytest.mark.memory, pytest.mark.threads]

JPEG = encode(gradient(64, 48))
UPLOAD = "/darkroom.v1.Images/Upload"
TEST = "/grpc.testing.TestService/"
GROWTH_KB = 400000 if BUILD.name == "asan" else 20000  # ASan holds back 256 MB of what is freed


@pytest.fixture(scope="session", name="testing")
def fixture_testing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("testing")
    subprocess.run(["protoc", f"--proto_path={ROOT}/tests/programs", f"--python_out={folder}", "testing.proto"],
                   check=True)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("testing_pb2")
    sys.path.remove(str(folder))


class TestServer:
    __test__ = False
    host = "127.0.0.1"

    def __init__(self, options):
        arguments = [f"{name}={value}" for name, value in options.items()]
        self.process = subprocess.Popen([BUILD / "test-service", *arguments], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def channel(self, **options):
        return channel(self, **options)

    def memory_kb(self):
        return kilobytes(f"/proc/{self.process.pid}/status", "VmHWM")

    def stop(self):
        """Exit status 0: nothing is left over."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30 * SLOW)
        self.process.stdout.close()
        return code


@pytest.fixture(name="serve")
def fixture_serve():
    """serve(stall_ms=…): the program, which must end well."""
    servers = []

    def serve(**options):
        servers.append(TestServer(options))
        return servers[-1]
    yield serve
    assert [server.stop() for server in servers] == [0] * len(servers)


def channel(service, **options):
    options = {"grpc.max_receive_message_length": -1, "grpc.use_local_subchannel_pool": 1} | options
    return grpc.insecure_channel(f"{service.host}:{service.port}", list(options.items()))


def stream(open_channel, testing, method, request="StreamingOutputCallRequest",
           reply="StreamingOutputCallResponse", kind="stream_stream"):
    return getattr(open_channel, kind)(
        TEST + method, request_serializer=getattr(testing, request).SerializeToString,
        response_deserializer=getattr(testing, reply).FromString)


def wanted(testing, *sizes, interval_us=0, body=0):
    request = testing.StreamingOutputCallRequest()
    for size in sizes:
        request.response_parameters.add(size=size, interval_us=interval_us)
    request.payload.body = bytes(body)
    return request


class Outbox:
    """Requests that are sent when they are put, until the end."""

    def __init__(self, *first):
        self.queue = list(first)
        self.changed = threading.Condition()
        self.ended = False

    def __iter__(self):
        return self

    def __next__(self):
        with self.changed:
            self.changed.wait_for(lambda: self.queue or self.ended)
            if not self.queue:
                raise StopIteration
            return self.queue.pop(0)

    def put(self, request):
        with self.changed:
            self.queue.append(request)
            self.changed.notify()

    def end(self):
        with self.changed:
            self.ended = True
            self.changed.notify()


def failure(function):
    with pytest.raises(grpc.RpcError) as failed:
        function()
    return failed.value.code(), failed.value.details()


def has_a_place(server, testing):
    """Whether a call is let in."""
    with server.channel() as again:
        try:
            list(stream(again, testing, "FullDuplexCall")(iter([]), timeout=60 * SLOW))
            return True
        except grpc.RpcError as why:
            assert why.code() == CODE.UNAVAILABLE
            return False


def windows_are_known(client):
    """The service's SETTINGS have come, so that a stream's window is 1 MiB."""
    client.wait(lambda: client.of(h2.SETTINGS), "SETTINGS")


# ---- grpc-go's interop client

CASES = """empty_unary large_unary client_streaming server_streaming ping_pong empty_stream timeout_on_sleeping_server
    cancel_after_begin cancel_after_first_response custom_metadata status_code_and_message special_status_message
    unimplemented_method unimplemented_service rpc_soak channel_soak""".split()


@pytest.mark.parametrize("case", CASES)
def test_interop(serve, case):
    try:
        client = built_binary("grpc-interop")
    except Unavailable as why:
        pytest.skip(str(why))
    server = serve()
    done = subprocess.run([client, "-server_host", server.host, "-server_port", str(server.port), "-test_case", case],
                          capture_output=True, text=True, timeout=60 * SLOW, check=False,
                          env=os.environ | {"GRPC_GO_LOG_SEVERITY_LEVEL": "info"})
    assert done.returncode == 0 and "done" in done.stderr.lower(), done


# ---- reading and writing

def test_each_message_is_answered_before_the_next(serve, testing):
    server = serve()
    with server.channel() as open_channel:
        box = Outbox()
        call = stream(open_channel, testing, "FullDuplexCall")(box, timeout=60 * SLOW)
        for size in (0, 1, 65536, 3 * MIB, 5):
            box.put(wanted(testing, size, body=size))
            assert len(next(call).payload.body) == size
        box.end()
        assert list(call) == [] and call.code() == CODE.OK


def test_gzip_in_a_stream(serve, testing):
    server = serve()
    with server.channel() as open_channel:
        method = stream(open_channel, testing, "StreamingInputCall", "StreamingInputCallRequest",
                        "StreamingInputCallResponse", "stream_unary")
        requests = [testing.StreamingInputCallRequest(payload={"body": bytes(size)}) for size in (0, 10, 2 * MIB)]
        reply = method(iter(requests), compression=grpc.Compression.Gzip, timeout=60 * SLOW)
        assert reply.aggregated_payload_size == 2 * MIB + 10
        bomb = [testing.StreamingInputCallRequest(payload={"body": bytes(33 * MIB)})]
        assert failure(lambda: method(iter(bomb), compression=grpc.Compression.Gzip,
                                      timeout=60 * SLOW))[0] == CODE.RESOURCE_EXHAUSTED


ACCEPTS = [[], [("grpc-accept-encoding", "identity,deflate,gzip")], [("grpc-accept-encoding", "gzipped, identity")]]


@pytest.mark.parametrize("accepts, size, packed", [(ACCEPTS[0], 60000, 0), (ACCEPTS[1], 60000, 1),
                                                   (ACCEPTS[1], 100, 0), (ACCEPTS[2], 60000, 0)])
def test_replies_are_packed_where_it_pays(serve, testing, accepts, size, packed):
    server = serve()
    with h2.Client(server) as client:
        for number, method, request in ((1, "UnaryCall", testing.SimpleRequest(response_size=size)),
                                        (3, "StreamingOutputCall", wanted(testing, size))):
            client.open(number, "POST", TEST + method, ("content-type", "application/grpc"), ("te", "trailers"), *accepts,
                        body=prefixed(request.SerializeToString()))
            status, body = client.reply(number)
            assert (status, grpc_status(client.of(h2.HEADERS, number)[-1][3])) == (200, 0)
            message = body[5:]
            assert body[0] == packed and int.from_bytes(body[1:5], "big") == len(message)
            if packed:
                assert len(message) < size / 50
                message = gzip.decompress(message)
            reply = testing.SimpleResponse.FromString(message)  # on the wire both replies look the same
            assert reply.payload.body == bytes(size)
    with server.channel() as open_channel:  # a client that says it takes gzip, and unpacks by itself
        call = stream(open_channel, testing, "StreamingOutputCall", kind="unary_stream")(
            wanted(testing, size, 3), timeout=60 * SLOW)
        assert [len(reply.payload.body) for reply in call] == [size, 3]


def test_pictures_are_not_packed_again(shared, messages):
    request = messages("darkroom.v1.images").ImageRequest(
        image=encode(Image.effect_noise((150, 150), 90).convert("RGB")), options={"fit": "none"})
    with h2.Client(shared.preprocess) as client:
        windows_are_known(client)
        client.open(1, "POST", "/darkroom.v1.Images/Transform", ("content-type", "application/grpc"), ("te", "trailers"),
                    *ACCEPTS[1], body=prefixed(request.SerializeToString()))
        _, body = client.reply(1)
        assert body[0] == 0 and len(body) > 1024


def test_a_slow_reader_holds_up_its_own_handler_only(serve, testing):
    """500 MB for a client that does not read: the server holds what fits into its queue."""
    server = serve()
    before = server.memory_kb()
    with server.channel() as slow, server.channel() as quick:
        call = stream(slow, testing, "StreamingOutputCall", kind="unary_stream")(wanted(testing, *[MIB] * 500),
                                                                                 timeout=120 * SLOW)
        assert len(next(call).payload.body) == MIB
        for _ in range(20):  # others go on meanwhile
            box = iter([wanted(testing, 1000)])
            assert len(list(stream(quick, testing, "FullDuplexCall")(box, timeout=60 * SLOW))) == 1
        assert server.memory_kb() - before < GROWTH_KB
        assert sum(len(reply.payload.body) for reply in call) == 499 * MIB
        assert server.memory_kb() - before < GROWTH_KB


def test_the_window_is_given_back_as_the_handler_reads(serve, testing):
    """A handler that cannot write does not read: its client may send a window and no more."""
    server = serve()
    message = prefixed(wanted(testing, 300000, body=100000).SerializeToString())
    with h2.Client(server, INITIAL_WINDOW_SIZE=1000) as client:
        windows_are_known(client)
        client.open(1, "POST", TEST + "FullDuplexCall", ("content-type", "application/grpc"), ("te", "trailers"),
                    more=True)
        for _ in range(4):
            client.data(1, message, end=False)

        def answered():
            return sum(len(f[3]) for f in client.of(h2.DATA, 1))
        client.wait(lambda: answered() >= 1000, "as much of an answer as may be sent")
        # nothing is given back of the stream's window of 1 MiB, though the connection's moves
        client.send(h2.frame(h2.PING, 0, 0, bytes(8)))
        client.wait(lambda: [f for f in client.of(h2.PING) if f[1] & h2.ACK], "the answer to PING")
        assert not client.of(h2.WINDOW_UPDATE, 1)
        assert answered() == 1000
        # what is beyond the window is the client's error
        client.data(1, bytes(MIB), end=False)
        assert client.reset_code(1) == 3  # FLOW_CONTROL_ERROR
    assert server.stop() == 0


def test_all_is_given_back(serve, testing):
    """More than the window, as fast as it goes, both ways."""
    server = serve()
    with server.channel() as open_channel:
        requests = (wanted(testing, 200000, body=200000) for _ in range(100))
        call = stream(open_channel, testing, "FullDuplexCall")(requests, timeout=120 * SLOW)
        assert sum(len(reply.payload.body) for reply in call) == 100 * 200000


def test_a_thousand_streams(serve, testing):
    """All of them open at the same time, each with a handler that waits for its client."""
    server = serve(inflight=1000, stall_ms=300000)  # the last client comes when it does
    channels = [server.channel() for _ in range(10)]
    boxes, calls = [], []
    for n in range(1000):
        boxes.append(Outbox(wanted(testing, n)))
        calls.append(stream(channels[n % 10], testing, "FullDuplexCall")(boxes[-1], timeout=300 * SLOW))
    for _ in range(2):
        for n, (box, call) in enumerate(zip(boxes, calls)):
            assert len(next(call).payload.body) == n
            box.put(wanted(testing, n))
    for box in boxes:
        box.end()
    assert all(len(list(call)) == 1 and call.code() == CODE.OK for call in calls)
    for one in channels:
        one.close()


# ---- ends

def test_a_deadline_wakes_who_waits(serve, testing):
    server = serve(stall_ms=600000)
    with server.channel() as open_channel:
        box = Outbox()
        call = stream(open_channel, testing, "FullDuplexCall")(box, timeout=0.2)  # waits for its client
        assert failure(lambda: next(call))[0] == CODE.DEADLINE_EXCEEDED
        box.end()
        call = stream(open_channel, testing, "StreamingOutputCall", kind="unary_stream")(
            wanted(testing, 1, 1, interval_us=600000000), timeout=0.2)  # waits for itself
        assert failure(lambda: next(call))[0] == CODE.DEADLINE_EXCEEDED
        call = stream(open_channel, testing, "StreamingOutputCall", kind="unary_stream")(
            wanted(testing, *[MIB] * 500), timeout=2 * SLOW)  # waits for room
        next(call)
        wait_for(lambda: not call.is_active(), "the deadline")
        assert failure(lambda: list(call))[0] == CODE.DEADLINE_EXCEEDED
    assert server.stop() == 0  # at once: nobody waits any more


def test_the_servers_own_clock_ends_a_call_without_its_client(serve):
    """grpc-timeout by a client that does nothing itself."""
    server = serve(stall_ms=600000)
    with h2.Client(server) as client:
        client.open(1, "POST", TEST + "FullDuplexCall", ("content-type", "application/grpc"), ("te", "trailers"),
                    ("grpc-timeout", "100m"), more=True)
        assert client.reply(1)[0] == 200
        assert grpc_status(client.of(h2.HEADERS, 1)[-1][3]) == 4
        assert client.reset_code(1) == h2.NO_ERROR  # the rest is not wanted


def test_cancelled_and_lost_clients_free_their_handlers(serve, testing):
    server = serve(inflight=8, stall_ms=600000)
    for _ in range(6):  # each time all places are taken, and given back
        with server.channel() as open_channel:
            boxes = [Outbox(wanted(testing, 10)) for _ in range(8)]
            calls = [stream(open_channel, testing, "FullDuplexCall")(box, timeout=60 * SLOW, wait_for_ready=True)
                     for box in boxes]
            for call in calls:
                next(call)
            for call in calls[:4]:
                call.cancel()
            # the channel's end is the end of the others
        for box in boxes:
            box.end()
        wait_for(lambda: has_a_place(server, testing), "a place")


def test_a_client_that_takes_nothing_gives_its_place_back(serve, testing):
    """After 30 s its stream is reset. The server's clock jumps there, each time that nothing has come of it."""
    server = serve(inflight=1, jump_ms=31000)
    with h2.Client(server, INITIAL_WINDOW_SIZE=0) as client:
        windows_are_known(client)
        client.open(1, "POST", TEST + "FullDuplexCall", ("content-type", "application/grpc"), ("te", "trailers"),
                    more=True)
        client.data(1, prefixed(wanted(testing, 300000).SerializeToString()), end=False)
        client.wait(lambda: client.of(h2.HEADERS, 1), "the answer's head")

        def is_reset():
            if not client.of(h2.RST_STREAM, 1):
                server.process.send_signal(signal.SIGUSR1)
                client.send(h2.frame(h2.PING, 0, 0, bytes(8)))  # the connection is alive
            return client.of(h2.RST_STREAM, 1)
        client.wait(is_reset, "RST_STREAM")
        assert client.reset_code(1) == h2.CANCEL
        wait_for(lambda: has_a_place(server, testing), "a place")


def test_a_client_that_stalls(serve, testing):
    """The clock is the bodies': it runs while the handler waits for the client."""
    server = serve(stall_ms=300)
    with server.channel() as open_channel:
        box = Outbox(wanted(testing, 1))
        call = stream(open_channel, testing, "FullDuplexCall")(box, timeout=60 * SLOW)
        assert len(next(call).payload.body) == 1
        assert failure(lambda: next(call)) == (CODE.DEADLINE_EXCEEDED, "no byte of the body arrived for 300 ms")
        box.end()
        # a handler that is busy for longer than that is not its client's fault
        box = Outbox(wanted(testing, 1, 1, 1, interval_us=400000))
        call = stream(open_channel, testing, "FullDuplexCall")(box, timeout=60 * SLOW)
        assert [len(next(call).payload.body) for _ in range(3)] == [1, 1, 1]
        box.end()
        assert list(call) == []


BODIES = {  # body, more options, grpc-status
    "half a prefix": (b"\0\0", {}, 3), "cut": (prefixed(bytes(9))[:-1], {}, 3),
    "unknown flag": (prefixed(b"", 2), {}, 3), "too long": (b"\0\xff\xff\xff\xff", {}, 8),
    "not a message": (prefixed(b"\xff" * 20), {}, 3), "compressed without a word": (prefixed(b"x", 1), {}, 13),
    "over the limit": (prefixed(bytes(33 * MIB)), {}, 8), "a length, and no more": (b"\0\0\x10\0\0", {}, 3),
}


@pytest.mark.parametrize("body, options, status", BODIES.values(), ids=BODIES)
def test_malformed_streams(serve, body, options, status):
    server = serve(**options)
    with h2.Client(server) as client:
        windows_are_known(client)
        client.open(1, "POST", TEST + "StreamingInputCall", ("content-type", "application/grpc"), ("te", "trailers"),
                    body=body[:MIB])
        assert client.reply(1)[0] == 200
        assert grpc_status(client.of(h2.HEADERS, 1)[-1][3]) == status


def test_one_message_where_one_is_due(serve, testing):
    server = serve()
    one = prefixed(wanted(testing, 1).SerializeToString())
    with h2.Client(server) as client:
        for number, body, status in ((1, b"", 3), (3, one, 0), (5, one * 2, 3)):
            client.open(number, "POST", TEST + "StreamingOutputCall", ("content-type", "application/grpc"),
                        ("te", "trailers"), body=body)
            assert client.reply(number)[0] == 200
            assert grpc_status(client.of(h2.HEADERS, number)[-1][3]) == status


def test_a_budget_that_is_full(serve, testing):
    """What arrives is charged: without room the stream ends, and says when to come again."""
    server = serve(budget=1 << 18)
    with server.channel() as open_channel:
        method = stream(open_channel, testing, "StreamingInputCall", "StreamingInputCallRequest",
                        "StreamingInputCallResponse", "stream_unary")
        large = testing.StreamingInputCallRequest(payload={"body": bytes(MIB)})
        assert failure(lambda: method(iter([large]), timeout=60 * SLOW))[0] == CODE.UNAVAILABLE
        small = testing.StreamingInputCallRequest(payload={"body": bytes(1000)})
        for _ in range(5):  # each has room even when its handler has read nothing yet
            assert method(iter([small] * 200), timeout=60 * SLOW).aggregated_payload_size == 200000


# ---- shutdown

def refuses(server):
    """Whether a new call is sent elsewhere."""
    with server.channel() as open_channel:
        try:
            open_channel.unary_unary(TEST + "EmptyCall")(b"", timeout=60 * SLOW)
            return False
        except grpc.RpcError as why:
            assert why.code() == CODE.UNAVAILABLE
            return True


def test_streams_end_within_the_grace(serve, testing):
    server = serve(grace_ms=int(20000 * SLOW))
    with server.channel() as open_channel:
        box = Outbox(wanted(testing, 7))
        call = stream(open_channel, testing, "FullDuplexCall")(box, timeout=60 * SLOW)
        next(call)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(server), "the drain")
        box.put(wanted(testing, 8))
        assert len(next(call).payload.body) == 8
        box.end()
        assert list(call) == [] and call.code() == CODE.OK
    assert server.process.wait(10 * SLOW) == 0


def test_who_does_not_end_is_ended(serve, testing):
    server = serve(grace_ms=500)
    with server.channel() as open_channel:
        box = Outbox(wanted(testing, 7))
        reading = stream(open_channel, testing, "FullDuplexCall")(box, timeout=60 * SLOW)
        next(reading)
        pausing = stream(open_channel, testing, "StreamingOutputCall", kind="unary_stream")(
            wanted(testing, 1, 1, interval_us=600000000), timeout=60 * SLOW)
        server.process.send_signal(signal.SIGTERM)
        assert failure(lambda: next(reading))[0] == CODE.UNAVAILABLE
        assert failure(lambda: next(pausing))[0] == CODE.UNAVAILABLE
        box.end()
    assert server.process.wait(10 * SLOW) == 0


# ---- Upload

@pytest.fixture(name="upload")
def fixture_upload(messages):
    """upload(service, chunks or messages, width=…): the reply."""
    images = messages("darkroom.v1.images")

    def upload(service, pieces, timeout=60, **options):
        requests = itertools.chain(
            [images.ImageRequest(options=options)],
            (piece if isinstance(piece, images.ImageRequest) else images.ImageRequest(image=piece) for piece in pieces))
        with channel(service) as open_channel:
            method = open_channel.stream_unary(UPLOAD, request_serializer=images.ImageRequest.SerializeToString,
                                               response_deserializer=images.PreprocessResponse.FromString)
            return method(requests, timeout=timeout * SLOW)
    return upload


def pieces_of(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


def test_upload_stores_as_rest_does(shared, upload):
    reply = upload(shared.preprocess, pieces_of(JPEG, 100), width="33", format="png")
    rest = shared.preprocess.upload(JPEG, "?width=33&format=png").json()
    assert (reply.id, reply.gcs_path, reply.width, reply.height, reply.format, reply.bytes) == (
        rest["id"], rest["gcs_path"], rest["width"], rest["height"], rest["format"], rest["bytes"])
    assert reply.message_id
    assert shared.result({"id": reply.id})["id"] == reply.id


def test_upload_of_a_large_file(shared, upload):
    """Near MAX_BODY_BYTES, in chunks small and large."""
    large = encode(gradient(3000, 3000), "PNG", compress_level=0)
    assert 25 * MIB < len(large) < 32 * MIB
    rest = shared.preprocess.upload(large).json()
    for size in (65536, 4 * MIB - 100):
        assert upload(shared.preprocess, pieces_of(large, size), timeout=120).id == rest["id"]
    shared.preprocess.settles("body_bytes_in_flight", 0)


def test_upload_refuses(shared, upload, messages):
    image = messages("darkroom.v1.images").ImageRequest
    service = shared.preprocess

    def refusal(pieces, **options):
        return failure(lambda: upload(service, pieces, **options))

    assert refusal([]) == (CODE.INVALID_ARGUMENT, "the image is empty")
    assert refusal([b"not an image"])[0] == CODE.INVALID_ARGUMENT
    assert refusal([JPEG], nonsense="1") == (CODE.INVALID_ARGUMENT, "nonsense: no such option")
    assert refusal([JPEG, image(options={"width": "9"})]) == (
        CODE.INVALID_ARGUMENT, "options come with the first message")
    assert refusal([bytes(MIB)] * 33) == (CODE.RESOURCE_EXHAUSTED, "the body is larger than 33554432 bytes")
    assert refusal([bytes(4 * MIB + 1)]) == (CODE.RESOURCE_EXHAUSTED, "the message is larger than 4194304 bytes")
    with channel(service) as open_channel:  # no message at all
        method = open_channel.stream_unary(UPLOAD)
        assert failure(lambda: method(iter([]), timeout=60 * SLOW)) == (CODE.INVALID_ARGUMENT, "the image is empty")
        # what is wrong is said before the file is sent
        box = Outbox(image(options={"width": "x"}).SerializeToString())
        assert failure(lambda: method(box, timeout=60 * SLOW))[0] == CODE.INVALID_ARGUMENT
        box.end()
    service.settles("body_bytes_in_flight", 0)


def test_an_upload_that_stops(start, messages):
    service = start(BODY_STALL_MS=300)
    first = messages("darkroom.v1.images").ImageRequest(image=JPEG[:100]).SerializeToString()
    with channel(service) as open_channel:
        box = Outbox(first)
        assert failure(lambda: open_channel.stream_unary(UPLOAD)(box, timeout=60 * SLOW)) == (
            CODE.DEADLINE_EXCEEDED, "no byte of the body arrived for 300 ms")
        box.end()
    line, = wait_for(lambda: [line for line in service.log_lines() if line.get("path") == UPLOAD], "the log")
    assert line["status"] == 408


def test_an_upload_gives_its_place_like_any_slow_body(start, messages, upload):
    """With MAX_INFLIGHT reached, a body that comes in at less than 16 KiB/s ends after 5 s."""
    service = start(MAX_INFLIGHT=1, BODY_STALL_MS=60000, BODY_MIN_RATE=1)
    first = messages("darkroom.v1.images").ImageRequest(image=JPEG[:100]).SerializeToString()
    with channel(service) as open_channel:
        box = Outbox(first)
        slow = open_channel.stream_unary(UPLOAD).future(box, timeout=120 * SLOW)
        wait_for(lambda: service.metric("body_bytes_in_flight") > 0, "the first piece")

        def fits():
            try:
                return upload(service, [JPEG])
            except grpc.RpcError as why:
                assert why.code() == CODE.UNAVAILABLE
                return None
        assert wait_for(fits, "the slow one's place").id
        assert slow.exception().code() == CODE.UNAVAILABLE
        box.end()


def test_cancelled_uploads_leave_nothing(start, messages):
    service = start()
    piece = messages("darkroom.v1.images").ImageRequest(image=bytes(MIB)).SerializeToString()
    with channel(service) as open_channel:
        boxes = [Outbox(*[piece] * 5) for _ in range(10)]
        calls = [open_channel.stream_unary(UPLOAD).future(box, timeout=60 * SLOW) for box in boxes]
        wait_for(lambda: service.metric("body_bytes_in_flight") >= 50 * MIB, "their bytes")
        for call in calls:
            call.cancel()
        service.settles("body_bytes_in_flight", 0)
        for box in boxes:
            box.end()


def test_streams_are_grpcs(shared):
    """gRPC-Web and Connect are told so."""
    reply = shared.preprocess.post_image(UPLOAD, prefixed(b""), content_type="application/grpc-web+proto")
    assert reply.status == 200 and b"grpc-status: 12\r\n" in reply.body and b"is a stream" in reply.body
    reply = shared.preprocess.post_image(UPLOAD, b"", content_type="application/proto")
    assert reply.status == 501 and json.loads(reply.body)["code"] == "unimplemented"


# ---- Watch

@pytest.fixture(name="watch")
def fixture_watch(messages):
    health = messages("health")

    def watch(open_channel, name=""):
        return open_channel.unary_stream(
            "/grpc.health.v1.Health/Watch", request_serializer=health.HealthCheckRequest.SerializeToString,
            response_deserializer=lambda data: health.HealthCheckResponse.ServingStatus.Name(
                health.HealthCheckResponse.FromString(data).status))(
                    health.HealthCheckRequest(service=name), timeout=120 * SLOW)
    return watch


def test_watch(start, watch):
    service = start(SHUTDOWN_GRACE_MS=int(30000 * SLOW))
    with channel(service) as open_channel:
        server, images, unknown = (watch(open_channel, name) for name in ("", "darkroom.v1.Images", "nothing"))
        assert [next(server), next(images), next(unknown)] == ["SERVING", "SERVING", "SERVICE_UNKNOWN"]
        service.process.terminate()
        assert [next(server), next(images)] == ["NOT_SERVING", "NOT_SERVING"]
        for call in (server, images, unknown):
            assert failure(lambda: next(call))[0] == CODE.UNAVAILABLE  # pylint: disable=cell-var-from-loop
    assert service.process.wait(10 * SLOW) == 0  # the grace is not needed
    service.process = None


def test_watches_hold_up_nobody(start, watch, upload):
    """They are bounded, and beside MAX_INFLIGHT."""
    service = start(MAX_INFLIGHT=1)
    with channel(service) as open_channel:
        watches = [watch(open_channel) for _ in range(16)]
        assert {next(one) for one in watches} == {"SERVING"}
        assert failure(lambda: next(watch(open_channel)))[0] == CODE.UNAVAILABLE
        assert upload(service, [JPEG]).id
        for one in watches:
            one.cancel()

        def again():
            one = watch(open_channel)
            try:
                return next(one) == "SERVING" and one.cancel()
            except grpc.RpcError:
                return False
        wait_for(again, "a place")


# ---- reflection

def grpcurl(service, *arguments, **fields):
    try:
        program = built_binary("grpcurl")
    except Unavailable as why:
        pytest.skip(str(why))
    data = ["-d", json.dumps(fields)] if fields else []
    done = subprocess.run([program, "-plaintext", *data, f"{service.host}:{service.port}", *arguments],
                          capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert done.returncode == 0, done
    return done.stdout


def test_grpcurl_needs_no_files(shared):
    assert grpcurl(shared.preprocess, "list").split() == [
        "NLImageService", "darkroom.v1.Catalogue", "darkroom.v1.Images", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
        "image_pipeline.BackgroundRemover", "image_pipeline.ImageProcessorOrchestrator", "image_pipeline.ImageUploader",
        "image_pipeline.NoiseReducer"]
    assert grpcurl(shared.classify, "list").split() == [
        "darkroom.v1.Labels", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
        "image_pipeline.ImageClassifier", "inference.GRPCInferenceService"]
    assert "rpc RotateImage" in grpcurl(shared.preprocess, "describe", "NLImageService")
    assert "rpc Upload ( stream .darkroom.v1.ImageRequest )" in grpcurl(shared.preprocess, "describe")
    assert "ModelInferRequest" in grpcurl(shared.classify, "describe", "inference.ModelInferRequest.InferInputTensor")
    assert "SERVING" in grpcurl(shared.classify, "grpc.health.v1.Health/Check")
    image = __import__("base64").b64encode(JPEG).decode()
    reply = json.loads(grpcurl(shared.preprocess, "darkroom.v1.Images/Preprocess", image=image, options={"width": "9"}))
    assert reply["width"] == 9 and len(reply["id"]) == 64
    again = json.loads(grpcurl(shared.preprocess, "darkroom.v1.Images/Upload", image=image, options={"width": "9"}))
    assert again["id"] == reply["id"]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(shared, messages, version):
    reflection = messages("reflection")
    questions = [dict(list_services=""), dict(file_by_filename="darkroom/v1/labels.proto"),
                 dict(file_containing_symbol="darkroom.v1.Images.Upload"), dict(file_containing_symbol="darkroom.v1.Image"),
                 dict(file_containing_symbol="inference.ModelInferRequest.InferInputTensor.shape"),
                 dict(file_by_filename="nothing.proto"), dict(all_extension_numbers_of_type="darkroom.v1.ImageRequest")]
    with channel(shared.preprocess) as open_channel:
        method = open_channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection.ServerReflectionResponse.FromString)
        replies = list(method(iter([reflection.ServerReflectionRequest(host="h", **question) for question in questions]),
                              timeout=60 * SLOW))
        assert [reply.original_request.WhichOneof("message_request") for reply in replies] == [
            next(iter(question)) for question in questions]
        assert [reply.WhichOneof("message_response") for reply in replies] == [
            "list_services_response", *["file_descriptor_response"] * 2, "error_response", "file_descriptor_response",
            *["error_response"] * 2]
        assert {reply.error_response.error_code for reply in replies} == {0, 5}
        assert b"darkroom/v1/labels.proto" in replies[1].file_descriptor_response.file_descriptor_proto[0]
        assert failure(lambda: list(method(iter([reflection.ServerReflectionRequest()]), timeout=60 * SLOW)))[0] \
            == CODE.INVALID_ARGUMENT


def test_streams_side_by_side(shared, upload, watch):
    """Uploads, watches and calls on one connection each, all at once."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool, channel(shared.preprocess) as open_channel:
        one = watch(open_channel)
        assert next(one) == "SERVING"
        ids = set(pool.map(lambda n: upload(shared.preprocess, pieces_of(JPEG, 50 + n), width="40").id, range(40)))
        assert len(ids) == 1
        one.cancel()
