"""One client by hand for each protocol, with the same steps: for tests of clients that are slow, or many, or gone.

    client = Http1(service)             # or Http2
    client.post(len(JPEG))              # the head of an upload; without a length: chunked, or DATA frames
    client.send(JPEG[:9])               # some of its body
    client.end()                        # that was all of a body without a length
    client.reply()                      # (status, body)

reply(closed=True): HTTP/1.1's connection ends with it; a refusal over HTTP/2 ends its stream only.
"""
import contextlib
import re
import socket
import struct
import subprocess
import time

import h2_client as h2
from conftest import SLOW
from test_http import receive, responses


def curl(service, path, *options, http1=False, body=None, length=True):
    """(status, headers with lower-case names, body). `length`: the service knows it beforehand."""
    sending = ["--data-binary", "@-"] if length else ["-X", "POST", "-T", "-"]
    done = subprocess.run(
        ["curl", "-sS", "-D", "/dev/stderr", "--http1.1" if http1 else "--http2-prior-knowledge", "--max-time", str(60 * SLOW),
         *(sending if body is not None else []), *options, service.url + path],
        input=body, capture_output=True, check=True)
    lines = done.stderr.decode("latin-1").strip().split("\r\n\r\n")[-1].split("\r\n")
    assert lines[0].startswith("HTTP/1.1" if http1 else "HTTP/2"), lines
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split(" ")[1]), headers, b"" if "-I" in options else done.stdout


class Http1:
    name = "http1"

    def __init__(self, service, receive_buffer=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(30 * SLOW)
        self.sock.connect((service.host, service.port))
        self.chunked = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def abort(self):
        """A reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def get(self, path):
        self.sock.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())

    def post(self, length=None, path="/preprocess", expect=False, first=b""):
        """`first`: of the body, in the same packet. `expect`: 100-continue."""
        self.chunked = length is None
        framing = f"Content-Length: {length}\r\n" if length is not None else "Transfer-Encoding: chunked\r\n"
        more = "Expect: 100-continue\r\n" if expect else ""
        self.sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n{framing}{more}\r\n".encode() + self.piece(first))

    def piece(self, data):
        return b"%x\r\n%s\r\n" % (len(data), data) if self.chunked and data else data

    def send(self, data):
        self.sock.sendall(self.piece(data))

    def end(self):
        if self.chunked:
            self.sock.sendall(b"0\r\n\r\n")

    def wait_accepted(self):
        """With `expect`: until the body is wanted."""
        assert self.sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"

    def drip(self, data, seconds):
        """A byte at a time until an answer comes."""
        with contextlib.suppress(OSError):
            for n in range(len(data)):
                self.send(data[n:n + 1])
                if self.has_answer(seconds):
                    break

    def has_answer(self, seconds):
        self.sock.settimeout(max(seconds, 0.001))
        try:
            self.sock.recv(1, socket.MSG_PEEK)
            return True
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(30 * SLOW)

    def wait_closed(self):
        assert self.sock.recv(1) == b""

    def take(self, most):
        """Some of the reply; how much, 0 at its end."""
        return len(self.sock.recv(most))

    def rest(self):
        """How much is left of a reply that ends too soon."""
        got = 0
        with contextlib.suppress(ConnectionError):
            while taken := self.take(65536):
                got += taken
        return got

    def read_on(self):
        """Read what was asked for with a small receive_buffer."""

    def reply(self, closed=False):
        if closed:
            (status, headers, body), = responses(receive(self.sock))
            assert headers["connection"] == "close"
            return status, body
        data = b""
        while True:
            head, found, body = data.partition(b"\r\n\r\n")
            lengths = re.findall(rb"(?i)\r\nContent-Length: (\d+)", head)
            if found and len(body) >= int(lengths[0]):
                return int(head.split(b" ")[1]), body
            piece = self.sock.recv(1 << 20)
            assert piece, data[:1000]
            data += piece


class Http2:
    """One stream after the other: 1, 3, …"""
    name = "http2"

    def __init__(self, service, receive_buffer=None):
        # what a small buffer is to a socket, a window is to a stream
        self.client = h2.Client(service, **({"INITIAL_WINDOW_SIZE": receive_buffer} if receive_buffer else {}))
        self.sock = self.client.socket
        self.stream, self.left = -1, None
        # which acknowledges them: a test may then read nothing for as long as it likes
        self.client.wait(lambda: self.client.of(h2.SETTINGS), "SETTINGS")

    __enter__, __exit__, abort, close = Http1.__enter__, Http1.__exit__, Http1.abort, Http1.close

    def get(self, path):
        self.stream += 2
        self.client.open(self.stream, "GET", path)

    def post(self, length=None, path="/preprocess", expect=False, first=b""):
        self.stream += 2
        self.left = length
        fields = [("content-type", "image/jpeg")]
        if length is not None:
            fields.append(("content-length", str(length)))
        if expect:
            fields.append(("expect", "100-continue"))
        self.client.open(self.stream, "POST", path, *fields, more=True)
        if first:
            self.send(first)

    def send(self, data):
        if self.left is not None:
            self.left -= len(data)
        self.client.data(self.stream, data, end=self.left == 0)

    def end(self):
        if self.left is None:
            self.client.data(self.stream, b"")

    def wait_accepted(self):
        self.client.wait(lambda: self.client.of(h2.HEADERS, self.stream), "100")
        assert h2.status(self.client.of(h2.HEADERS, self.stream)[0][3]) == 100

    def drip(self, data, seconds):
        with contextlib.suppress(OSError):
            for n in range(len(data)):
                self.send(data[n:n + 1])
                if self.has_answer(seconds):
                    break

    def has_answer(self, seconds):
        until = time.monotonic() + seconds
        while not self.client.of(h2.HEADERS, self.stream) and not self.client.closed:
            if (left := until - time.monotonic()) <= 0:
                return False
            self.client.read(left)
        return True

    def wait_closed(self):
        self.client.wait_closed()

    def body_bytes(self):
        return sum(len(f[3]) for f in self.client.of(h2.DATA, self.stream))

    def take(self, most):
        before = self.body_bytes()
        self.client.send_if_open(h2.frame(h2.WINDOW_UPDATE, 0, self.stream, struct.pack(">I", most)))
        self.client.wait(lambda: self.body_bytes() > before or self.client.of(h2.RST_STREAM, self.stream), "data")
        return self.body_bytes() - before

    def rest(self):
        before = self.body_bytes()
        assert self.client.reset_code(self.stream) == h2.CANCEL
        return self.body_bytes() - before

    def read_on(self):
        self.client.send(h2.frame(h2.WINDOW_UPDATE, 0, self.stream, struct.pack(">I", 1 << 30)))

    def reply(self, closed=False):
        return self.client.reply(self.stream)


CLIENTS = {client.name: client for client in (Http1, Http2)}
