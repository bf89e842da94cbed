"""A scripted stand-in for Google, on one port of 127.0.0.1: the metadata server, the token endpoint of
service accounts, Cloud Storage's XML API, and Pub/Sub with push subscriptions that carry signed OIDC
tokens (and the keys to check them with). It can misbehave in ways that the real ones rarely do."""
import base64
import email.utils
import functools
import hashlib
import heapq
import http.client
import http.server
import itertools
import json
import pathlib
import random
import threading
import time
import urllib.parse
import xml.sax.saxutils

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
EMAIL = "darkroom@project.iam.gserviceaccount.com"


PUSH_EMAIL = "push@project.iam.gserviceaccount.com"
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.05, 1.0
ACKNOWLEDGED = (102, 200, 201, 202, 204)


@functools.cache
def _key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


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
        self.key = _key()
        self.fault_rate, self.lost_reply_rate, self.duplicate_rate, self.delay_s = 0.0, 0.0, 0.0, 0.0
        self.random = random.Random(1)
        self.topics, self.message_ids = {}, itertools.count(1)  # topic -> messages published
        self.subscriptions, self.dead = [], []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def endpoint(self):
        return "http://" + self.host

    def close(self):
        for subscription in self.subscriptions:
            subscription.stop()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        pass

    def chance(self, rate):
        with self.lock:
            return self.random.random() < rate

    def subscribe(self, topic, endpoint, audience, email=PUSH_EMAIL, max_attempts=1000):
        self.subscriptions.append(Subscription(self, topic, endpoint, audience, email, max_attempts))
        return self.subscriptions[-1]

    def identity_token(self, audience, email=PUSH_EMAIL, **changes):
        """What Pub/Sub signs its pushes with."""
        now = int(time.time())
        header = {"alg": "RS256", "kid": "key-1", "typ": "JWT"}
        claims = {"aud": audience, "azp": "1", "email": email, "email_verified": True, "exp": now + 3600, "iat": now,
                  "iss": "https://accounts.google.com", "sub": "1"} | changes
        text = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
        return f"{text}.{_b64(self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def key_set(self):
        numbers = self.key.public_key().public_numbers()
        return {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "key-1",
                          "n": _b64(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
                          "e": _b64(numbers.e.to_bytes(3, "big"))}]}

    def publish(self, topic, messages):
        ids = []
        for message in messages:
            ids.append(str(next(self.message_ids)))
            stored = message | {"messageId": ids[-1], "publishTime": email.utils.formatdate()}
            with self.lock:
                self.topics.setdefault(topic, []).append(stored)
            for subscription in self.subscriptions:
                if subscription.topic == topic:
                    subscription.add(stored)
        return ids

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


class Subscription:
    """Pushes with at-least-once delivery, retries with backoff, and dead letters."""
    WORKERS = 6

    def __init__(self, google, topic, endpoint, audience, email_, max_attempts):
        self.google, self.topic, self.audience, self.email = google, topic, audience, email_
        self.url, self.max_attempts = urllib.parse.urlsplit(endpoint), max_attempts
        self.queue, self.order, self.stopping = [], itertools.count(), False
        self.condition = threading.Condition()
        self.in_progress, self.deliveries, self.acknowledged = 0, 0, 0
        for _ in range(self.WORKERS):
            threading.Thread(target=self.work, daemon=True).start()

    def add(self, message, attempt=1, after_s=None):
        copies = 2 if attempt == 1 and self.google.chance(self.google.duplicate_rate) else 1
        for _ in range(copies):
            with self.google.lock:
                delay = self.google.random.random() * self.google.delay_s
            with self.condition:
                when = time.monotonic() + (delay if after_s is None else after_s)
                heapq.heappush(self.queue, (when, next(self.order), attempt, message))
                self.condition.notify()

    def work(self):
        while True:
            with self.condition:
                while not self.stopping and (not self.queue or self.queue[0][0] > time.monotonic()):
                    self.condition.wait(0.02)
                if self.stopping:
                    return
                _, _, attempt, message = heapq.heappop(self.queue)
                self.in_progress += 1
            status = self.push(message, attempt)
            with self.condition:
                self.deliveries += 1
                self.in_progress -= 1
                self.acknowledged += status in ACKNOWLEDGED
            if status in ACKNOWLEDGED:
                continue
            if attempt >= self.max_attempts:
                self.google.dead.append(message)
            else:
                self.add(message, attempt + 1, min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (attempt - 1)))

    def push(self, message, attempt):
        wire = message | {"message_id": message["messageId"], "publish_time": message["publishTime"]}
        body = json.dumps({"deliveryAttempt": attempt, "message": wire,
                           "subscription": f"projects/project/subscriptions/{self.topic}-push"})
        headers = {"Content-Type": "application/json",
                   "Authorization": "Bearer " + self.google.identity_token(self.audience, self.email)}
        try:
            connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)
            connection.request("POST", self.url.path, body, headers)
            status = connection.getresponse().status
            connection.close()
            return status
        except (OSError, http.client.HTTPException):
            return 0

    def idle(self):
        with self.condition:
            return not self.queue and self.in_progress == 0

    def stop(self):
        with self.condition:
            self.stopping = True
            self.condition.notify_all()


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
        elif google.chance(google.fault_rate):
            self.reply(503, {"error": {"code": 503, "status": "UNAVAILABLE"}}, Cache_Control="no-store")
        elif path == "/certs":
            self.reply(200, google.key_set(), Cache_Control="public, max-age=300")
        elif path.endswith(":publish"):
            self.publish(path, body)
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

    def is_authorized(self):
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return scheme == "Bearer" and token in self.server.tokens

    def publish(self, path, body):
        google = self.server
        if not self.is_authorized():
            return self.reply(401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}})
        _, _, _, project, _, topic = path.removesuffix(":publish").split("/")
        if project != "project":
            return self.reply(403, {"error": {"code": 403, "status": "PERMISSION_DENIED"}})
        ids = google.publish(topic, json.loads(body)["messages"])
        if google.chance(google.lost_reply_rate):
            self.close_connection = True  # published, but nobody hears of it
            return None
        return self.reply(200, {"messageIds": ids})

    def storage(self, path, query, body):
        google = self.server
        if not self.is_authorized():
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
            headers = {"content_type": self.headers["Content-Type"],
                       "ETag": f'"{hashlib.md5(body).hexdigest()}"', "Last_Modified": email.utils.formatdate(usegmt=True),
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
