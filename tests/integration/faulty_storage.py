"""A storage server that does what its script says, for faults that real servers do not show."""
import contextlib
import email.utils
import socket
import struct
import threading
import time

ETAG = '"0123456789abcdef0123456789abcdef"'


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while len(body) < int(headers.get("content-length", 0)):
        more = connection.recv(65536)
        if not more:
            return None
        body += more
    return Request(method, target, headers, body)


def answer(status, body=b"", length=None, **headers):
    """A step that answers; `length` lies about the body."""
    def step(connection, request):
        lines = [f"HTTP/1.1 {status} Whatever", "Server: faulty"]
        shown = {"Date": email.utils.formatdate(usegmt=True)}
        if length != "none":
            shown["Content-Length"] = str(len(body) if length is None else length)
        shown |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines += [f"{name}: {value}" for name, value in shown.items() if value is not None]
        sent = b"" if request.method == "HEAD" else body
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
        return length is None and headers.get("Connection") != "close"
    return step


def stored(body=b"the object", **headers):
    """200 with an object, or what a PUT is answered with."""
    def step(connection, request):
        whole = b"" if request.method == "PUT" else body
        return answer(200, whole, **({"ETag": ETAG, "Content_Type": "image/jpeg",
                                      "Last_Modified": "Sat, 21 Nov 2026 00:00:00 GMT"} | headers))(connection, request)
    return step


def error(status, code, **headers):
    return answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode(),
                  Content_Type="application/xml", **headers)


def reset(after=b""):
    """Some bytes, then a TCP reset."""
    def step(connection, _):
        if after:
            connection.sendall(after)
            time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    return step


def silence(connection, _):
    """Until the client goes away."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    return False


def drip(body=b"x" * 1000, every_s=0.2):
    """An object at a byte every now and then."""
    def step(connection, _):
        connection.sendall(f"HTTP/1.1 200 OK\r\nETag: {ETAG}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            for byte in body:
                connection.sendall(bytes([byte]))
                time.sleep(every_s)
        return False
    return step


class FaultyStorage:
    """Each request takes the next step of the script; the last one is repeated."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.lock = threading.Lock()
        self.steps, self.requests, self.connections = [], [], 0
        threading.Thread(target=self._accept, daemon=True).start()

    def script(self, *steps):
        with self.lock:
            self.steps, self.requests, self.connections = list(steps), [], 0

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with self.lock:
                    self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.settimeout(60)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            while (request := read_request(connection)) is not None:
                with self.lock:
                    self.requests.append(request)
                    step = self.steps[min(len(self.requests), len(self.steps)) - 1]
                if not step(connection, request):
                    return

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
