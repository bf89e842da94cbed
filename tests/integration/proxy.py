"""A TCP proxy with moods: what a network does between two processes that are both well."""
import contextlib
import select
import socket
import threading
import time

PASS, DRIP, HOLE = "pass", "drip", "hole"


class Proxy:
    """mood: PASS; DRIP, the server's answers come at one byte a second; HOLE, nothing arrives either way,
    and nobody is told. It counts for open connections, too."""

    def __init__(self, target_port):
        self.target_port, self.mood = target_port, PASS
        self.dripped = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.closing(client), contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", self.target_port), 10) as server:
                server.settimeout(60)
                client.settimeout(60)
                self._pump(client, server)

    def _pump(self, client, server):
        while True:
            if self.mood == HOLE:
                time.sleep(0.05)
                continue
            for source in select.select([client, server], [], [], 0.1)[0]:
                drip = source is server and self.mood == DRIP
                data = source.recv(1 if drip else 65536)
                if not data:
                    return
                (client if source is server else server).sendall(data)
                if drip:
                    self.dripped += 1
                    self._wait_while_dripping()

    def _wait_while_dripping(self):
        until = time.monotonic() + 1
        while self.mood == DRIP and time.monotonic() < until:
            time.sleep(0.02)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
