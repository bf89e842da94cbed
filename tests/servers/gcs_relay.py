"""A relay in front of fake-gcs-server, in a thread of the test's.

fake-gcs-server takes a plain PUT of Google's XML API only with the query of a signed URL, and then
ignores x-goog-if-generation-match. Its JSON API's simple upload takes the same headers and body, and
the condition as a parameter: so a PUT is readdressed to that, and all else goes through as it is.
"""
import contextlib
import http.client
import http.server
import json
import threading
import urllib.parse

CONDITION = "x-goog-if-generation-match"
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def relay(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        method, path = self.readdressed()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.backend_port, timeout=120)
            with contextlib.closing(connection):
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                data = response.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # what a client of the dead backend itself would see
            return
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if method != self.command and response.status == 200:  # as Google's XML API does
            self.send_header("ETag", json.loads(data)["etag"])
            data = b""
        length = response.headers.get("Content-Length") if self.command == "HEAD" else len(data)
        if length is not None and response.status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay

    def readdressed(self):
        path, _, query = self.path.partition("?")
        bucket, _, key = path[1:].partition("/")
        if self.command != "PUT" or not key or query or bucket in ("storage", "upload", "_internal"):
            return self.command, self.path
        parameters = {"uploadType": "media", "name": urllib.parse.unquote(key)}
        if self.headers.get(CONDITION) is not None:
            parameters["ifGenerationMatch"] = self.headers[CONDITION]
        return "POST", f"/upload/storage/v1/b/{bucket}/o?" + urllib.parse.urlencode(parameters)

    def log_message(self, *_):
        pass


class Relay(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, backend_port):
        super().__init__(("127.0.0.1", 0), Handler)
        self.backend_port = backend_port
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def handle_error(self, *_):
        pass  # a client that went away

    @property
    def port(self):
        return self.server_address[1]

    def stop(self):
        self.shutdown()
        self.server_close()
        self.thread.join()
