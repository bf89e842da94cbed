"""HTTP/2, frame by frame (RFC 9113): to send what no client library would."""
import socket
import struct
import time

from conftest import SLOW

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 7, 8, 11
SETTINGS_TIMEOUT = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values):
    """HEADER_TABLE_SIZE=0: the service then refers to no earlier header, and status() needs no state."""
    numbers = {"HEADER_TABLE_SIZE": 1, "INITIAL_WINDOW_SIZE": 4}
    values = {"HEADER_TABLE_SIZE": 0} | values
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", numbers[k], v) for k, v in values.items()))


def integer(n, bits, first):
    """HPACK, 5.1."""
    most = (1 << bits) - 1
    if n < most:
        return bytes([first | n])
    out, n = [first | most], n - most
    while n >= 128:
        out.append(n % 128 + 128)
        n //= 128
    return bytes([*out, n])


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return integer(len(value), 7, 0) + value


def block(fields):
    """All fields literally, none remembered."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields)


def request(method, path, *fields):
    return block([(":method", method), (":scheme", "http"), (":path", path), (":authority", "test"), *fields])


DIGITS = {"00000": "0", "00001": "1", "00010": "2"} | {f"{0b011001 + n:06b}": str(n + 3) for n in range(7)}
STATIC = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}


def status(payload):
    """The :status of a response's HEADERS, whose first field it is."""
    while payload[0] & 0xE0 == 0x20:  # the table's new size
        payload = payload[1:]
    if payload[0] & 0x80:
        return STATIC[payload[0] & 0x7F]
    assert payload[0] & 0x0F == 8, payload[:16]
    value = payload[2:2 + (payload[1] & 0x7F)]
    if not payload[1] & 0x80:
        return int(value)
    bits, out = "".join(f"{byte:08b}" for byte in value), ""
    while len(out) < 3:
        size = next(n for n in (5, 6) if bits[:n] in DIGITS)
        out, bits = out + DIGITS[bits[:size]], bits[size:]
    return int(out)


class Client:
    def __init__(self, service, begin=True, **values):
        """`begin`: the preface and SETTINGS are sent, and those of the service acknowledged."""
        self.socket = socket.create_connection((service.host, service.port), 30 * SLOW)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a frame does not wait for an earlier one's ACK
        self.received = b""
        self.frames = []  # (kind, flags, stream, payload), as they came
        self.closed = False
        self.answers = begin
        if begin:
            self.send(PREFACE + settings(**values))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def open(self, stream, method, path, *fields, body=None, more=False):
        """A request; `more`: its body goes on."""
        end = 0 if more or body is not None else END_STREAM
        self.send(frame(HEADERS, END_HEADERS | end, stream, request(method, path, *fields)))
        if body is not None:
            self.data(stream, body, not more)

    def data(self, stream, body, end=True):
        pieces = [body[at:at + 16384] for at in range(0, len(body), 16384)] or [b""]
        for n, piece in enumerate(pieces, 1):
            self.send(frame(DATA, END_STREAM if end and n == len(pieces) else 0, stream, piece))

    def read(self, timeout):
        """What comes next, into `frames`; False: nothing within that time."""
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        finally:
            self.socket.settimeout(30 * SLOW)
        self.closed = self.closed or not data
        self.received += data
        while len(self.received) >= 9:
            size = int.from_bytes(self.received[:3], "big")
            if len(self.received) < 9 + size:
                break
            kind, flags, stream = struct.unpack(">BBI", self.received[3:9])
            self.frames.append((kind, flags, stream & 0x7FFFFFFF, self.received[9:9 + size]))
            self.received = self.received[9 + size:]
            if kind == SETTINGS and not flags & ACK and self.answers:
                self.send_if_open(frame(SETTINGS, ACK, 0))
            if kind == DATA and size:
                self.send_if_open(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", size)))
        return not self.closed

    def send_if_open(self, data):
        try:
            self.send(data)
        except OSError:
            self.closed = True

    def wait(self, condition, what, timeout=30.0):
        """Read until condition() is true; its value is returned."""
        deadline = time.monotonic() + timeout * SLOW
        while not (value := condition()):
            assert not self.closed, f"closed, waiting for {what}: {self.frames}"
            assert time.monotonic() < deadline, f"timed out waiting for {what}: {self.frames}"
            self.read(0.1)
        return value

    def of(self, kind, stream=None):
        return [f for f in self.frames if f[0] == kind and stream in (None, f[2])]

    def reply(self, stream, timeout=30.0):
        """(status, body) of a whole response."""
        self.wait(lambda: any(f[1] & END_STREAM for f in self.of(HEADERS, stream) + self.of(DATA, stream)),
                  f"the reply on {stream}", timeout)
        final = next(s for f in self.of(HEADERS, stream) if (s := status(f[3])) >= 200)
        return final, b"".join(f[3] for f in self.of(DATA, stream))

    def reset_code(self, stream, timeout=30.0):
        found = self.wait(lambda: self.of(RST_STREAM, stream), f"RST_STREAM of {stream}", timeout)
        return struct.unpack(">I", found[0][3])[0]

    def goaway(self, timeout=30.0):
        """(error code, debug data) of the last GOAWAY."""
        found = self.wait(lambda: self.of(GOAWAY), "GOAWAY", timeout)
        return struct.unpack(">I", found[-1][3][4:8])[0], found[-1][3][8:]

    def wait_closed(self, timeout=30.0):
        deadline = time.monotonic() + timeout * SLOW
        while not self.closed:
            assert time.monotonic() < deadline, f"timed out waiting for the end: {self.frames}"
            self.read(0.1)
