"""A scripted stand-in for Google: the metadata server, the token endpoint of service accounts, and
Cloud Storage's XML API with Bearer tokens, on one port of 127.0.0.1."""
import base64
import email.utils
import hashlib
import http.server
import json
import pathlib
import threading
import time
import urllib.parse
import xml.sax.saxutils

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
EMAIL = "darkroom@project.iam.gserviceaccount.com"


def _unpad(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Google(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, bucket="darkroom-test"):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.bucket, self.objects = bucket, {}
        self.lifetime_s, self.token_delay_s, self.token_faults = 3600, 0.0, []
        self.tokens, self.tokens_given, self.asked = set(), 0, []
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def endpoint(self):
        return "http://" + self.host

    def close(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        pass

    def revoke(self):
        with self.lock:
            self.tokens.clear()

    def key_file(self, folder, **changes):
        """A service account's key file, as Google writes it."""
        pem = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                     serialization.NoEncryption()).decode()
        content = {"type": "service_account", "project_id": "project", "private_key_id": "key-1", "private_key": pem,
                   "client_email": EMAIL, "token_uri": self.endpoint + "/token"} | changes
        path = pathlib.Path(folder) / "key.json"
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        return path

    def new_token(self):
        with self.lock:
            self.tokens_given += 1
            token = f"ya29.token-{self.tokens_given}"
            self.tokens.add(token)
        threading.Timer(self.lifetime_s, self.tokens.discard, [token]).start() if self.lifetime_s < 60 else None
        return {"access_token": token, "expires_in": self.lifetime_s, "token_type": "Bearer"}

    def check_assertion(self, form):
        """What is wrong with a grant request, or None."""
        if form.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
            return "unsupported_grant_type"
        header, claims, signature = form["assertion"][0].split(".")
        self.key.public_key().verify(_unpad(signature), f"{header}.{claims}".encode(), padding.PKCS1v15(),
                                     hashes.SHA256())
        header, claims = json.loads(_unpad(header)), json.loads(_unpad(claims))
        good = header == {"alg": "RS256", "typ": "JWT", "kid": "key-1"} and claims["iss"] == EMAIL and \
            claims["aud"] == self.endpoint + "/token" and claims["scope"].split()[0] == SCOPE and \
            abs(claims["iat"] - time.time()) < 60 and 0 < claims["exp"] - claims["iat"] <= 3600
        return None if good else "invalid_grant"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", **headers):
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content_Type": "application/json"} | headers
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def problem(self, status, code):
        self.reply(status, f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>".encode(),
                   Content_Type="application/xml")

    def handle_all(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        google = self.server
        with google.lock:
            google.asked.append(f"{self.command} {self.path}")
        if path == "/computeMetadata/v1/instance/service-accounts/default/token" or path == "/token":
            self.token(path, body)
        else:
            self.storage(path, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_all

    def token(self, path, body):
        google = self.server
        time.sleep(google.token_delay_s)
        with google.lock:
            fault = google.token_faults.pop(0) if google.token_faults else None
        if fault is not None:
            return self.reply(*fault) if isinstance(fault, tuple) else self.reply(fault)
        if path != "/token":
            if self.headers.get("Metadata-Flavor") != "Google":
                return self.reply(403)
            return self.reply(200, google.new_token(), Metadata_Flavor="Google")
        wrong = google.check_assertion(urllib.parse.parse_qs(body.decode()))
        return self.reply(400, {"error": wrong}) if wrong else self.reply(200, google.new_token())

    def storage(self, path, query, body):
        google = self.server
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme != "Bearer" or token not in google.tokens:
            return self.problem(401, "AuthenticationRequired")
        bucket, _, key = urllib.parse.unquote(path)[1:].partition("/")
        if bucket != google.bucket:
            return self.problem(404, "NoSuchBucket")
        with google.lock:
            return self.listing(query) if not key else self.object(key, body)

    def listing(self, query):
        wanted = urllib.parse.parse_qs(query)
        prefix, after = wanted.get("prefix", [""])[0], wanted.get("continuation-token", [""])[0]
        keys = sorted(k for k in self.server.objects if k.startswith(prefix) and k > after)
        page = keys[:2]  # small pages: they are to be followed
        items = "".join(f"<Contents><Key>{xml.sax.saxutils.escape(k)}</Key>"
                        f"<Size>{len(self.server.objects[k][0])}</Size></Contents>" for k in page)
        more = len(keys) > len(page)
        token = f"<NextContinuationToken>{xml.sax.saxutils.escape(page[-1])}</NextContinuationToken>" if more else ""
        self.reply(200, f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/"
                        f"2006-03-01'><Name>x</Name><IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}"
                        f"</ListBucketResult>".encode(), Content_Type="application/xml")

    def object(self, key, body):
        objects = self.server.objects
        if self.command == "PUT":
            if self.headers.get("x-goog-if-generation-match") == "0" and key in objects:
                return self.problem(412, "PreconditionFailed")
            if self.headers.get("Content-MD5") != base64.b64encode(hashlib.md5(body).digest()).decode():
                return self.problem(400, "BadDigest")
            headers = {k.lower().replace("-", "_"): v for k, v in self.headers.items()
                       if k.lower().startswith("x-goog-meta-") or k.lower() == "content-type"}
            headers |= {"ETag": f'"{hashlib.md5(body).hexdigest()}"', "Last_Modified": email.utils.formatdate(usegmt=True),
                        "x_goog_generation": str(time.time_ns())}
            objects[key] = (body, headers)
            return self.reply(200, ETag=headers["ETag"])
        if key not in objects:
            return self.problem(404, "NoSuchKey")
        data, headers = objects[key]
        if self.command == "DELETE":
            del objects[key]
            return self.reply(204)
        if self.command == "HEAD":
            return self.reply(200, Content_Length=str(len(data)), **headers)
        wanted = self.headers.get("Range")
        if wanted is None:
            return self.reply(200, data, **headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        if int(first) >= len(data):
            return self.problem(416, "InvalidRange")
        part = data[int(first):int(last) + 1 if last else None]
        return self.reply(206, part, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}", **headers)
