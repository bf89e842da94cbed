"""A push endpoint that answers as told."""
import http.server
import json
import threading
import time


class Endpoint:
    """answer(envelope) -> status."""

    def __init__(self, answer=lambda envelope: 204, port=0):
        self.answer, self.received, self.lock = answer, [], threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                envelope = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = outer.answer(envelope)
                with outer.lock:
                    outer.received.append((time.monotonic(), envelope, status))
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def count(self, status=None):
        with self.lock:
            return sum(status in (None, s) for _, _, s in self.received)

    def message_ids(self, status):
        with self.lock:
            return [e["message"]["messageId"] for _, e, s in self.received if s == status]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
