"""Users of preprocess_service (USERS=on) for the tests."""
import http.client
import json

from conftest import SLOW, Reply

PASSWORD = "correct horse"
USERS = {"USERS": "on", "ADMINS": "root, spare-root, boss@example.com"}


def bearer(token):
    return {"Authorization": f"Bearer {token}"} if token else {}


def call(service, method, path, body=None, token=None, source=None, **headers):
    """A request with a JSON body, from that address of this machine."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=60 * SLOW,
                                            source_address=source and (source, 0))
    try:
        data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"} | bearer(token) |
                           {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


def sign_up(service, name, password=PASSWORD, token=None):
    return call(service, "POST", "/v1/users", {"name": name, "password": password}, token)


def sign_in(service, name, password=PASSWORD, **how):
    return call(service, "POST", "/v1/tokens", {"name": name, "password": password}, **how)


def token_of(service, name, password=PASSWORD):
    reply = sign_in(service, name, password)
    assert reply.status == 200, reply
    assert reply.json()["expires_in"] == 3600
    return reply.json()["token"]


def join(service, name):
    """The token of a new user."""
    reply = sign_up(service, name)
    assert reply.status == 201 and reply.json()["name"] == name, reply
    return token_of(service, name)
