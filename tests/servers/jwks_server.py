"""A token issuer for the tests: RSA keys, signed tokens of any shape, and a scripted JWKS endpoint.

    with JwksServer() as server:
        key = server.add_key("one")
        token = key.token(aud="https://example", email="a@b")
        server.url, server.fetches
        server.answer = lambda handler: handler.send_error(500)
"""
import base64
import functools
import http.server
import json
import ssl
import threading
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

GOOGLE = "https://accounts.google.com"


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64url_json(value):
    return b64url(value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode())


def claims(**changes):
    """What Pub/Sub says in its tokens; a change to None leaves the claim out."""
    now = int(time.time())
    told = {"iss": GOOGLE, "aud": "https://example.com", "azp": "1137742644", "sub": "1137742644",
            "email": "push@project.iam.gserviceaccount.com", "email_verified": True, "iat": now, "exp": now + 3600}
    return {name: value for name, value in (told | changes).items() if value is not None}


class Key:
    def __init__(self, kid, bits=2048):
        self.kid, self.bits = kid, bits

    @functools.cached_property  # many are made when pytest collects, few are used
    def private(self):
        return rsa.generate_private_key(public_exponent=65537, key_size=self.bits)

    def sign(self, text, digest=hashes.SHA256()):
        return self.private.sign(text.encode(), padding.PKCS1v15(), digest)

    def public_pem(self):
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def jwk(self, **changes):
        numbers = self.private.public_key().public_numbers()
        told = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
                "n": b64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")), "e": b64url(b"\1\0\1")}
        return {name: value for name, value in (told | changes).items() if value is not None}

    def token_of(self, header, payload):
        """Header and payload as objects, or as raw bytes."""
        text = b64url_json(header) + "." + b64url_json(payload)
        return text + "." + b64url(self.sign(text))

    def header(self, **changes):
        told = {"alg": "RS256", "kid": self.kid, "typ": "JWT"}
        return {name: value for name, value in (told | changes).items() if value is not None}

    def token(self, **changes):
        return self.token_of(self.header(), claims(**changes))


class JwksServer:
    """On a free port of 127.0.0.1, over TLS when given (certificate, key)."""

    def __init__(self, tls=None):
        self.keys = []
        self.fetches = 0
        self.max_age = 3600
        self.answer = None  # a function of the handler, instead of the keys
        self.tls = tls
        self.server = self.port = None
        self.start()

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/certs"

    def add_key(self, kid, bits=2048):
        self.keys.append(Key(kid, bits))
        return self.keys[-1]

    def document(self):
        return {"keys": [key.jwk() if isinstance(key, Key) else key for key in self.keys]}

    def start(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if outer.server is None:  # on a connection from before
                    self.close_connection = True
                    return
                outer.fetches += 1
                if outer.answer is not None:
                    outer.answer(self)
                    return
                self.reply(json.dumps(outer.document()).encode())

            def reply(self, body):
                self.send_response(200)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Cache-Control", f"public, max-age={outer.max_age}, must-revalidate, no-transform")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # clients that go away

        self.server = Server(("127.0.0.1", self.port or 0), Handler)
        self.port = self.server.server_port
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        """Nobody listens any more; start() listens on the same port again."""
        if self.server is not None:
            server, self.server = self.server, None
            server.shutdown()
            server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
