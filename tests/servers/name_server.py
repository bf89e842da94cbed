"""A DNS server on 127.0.0.1 that knows a few names: with Dns() as dns: dns.names["preprocess"] = ["127.0.0.2", …]"""
import contextlib
import socket
import struct
import threading


class Dns:
    def __init__(self):
        self.names = {}  # the addresses of each, which may change at any time
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, peer = self.socket.recvfrom(4096)
                if not query:
                    return
                self.socket.sendto(self.answer(query), peer)

    def answer(self, query):
        """RFC 1035: the question again, and an A record with a TTL of 0 for each address."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12:at + 5]
        kind = struct.unpack(">H", query[at + 1:at + 3])[0]
        known = self.names.get(".".join(labels))
        addresses = known if known and kind == 1 else []
        header = query[:2] + struct.pack(">HHHHH", 0x8580 if known is not None else 0x8583, 1, len(addresses), 0, 0)
        return header + question + b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(address) for address in addresses)
