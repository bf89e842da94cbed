"""Google's own Pub/Sub emulator, from the Cloud SDK where that is installed (gcloud's component
pubsub-emulator; it needs Java).

    with PubsubEmulator(folder) as pubsub:
        pubsub.place                                what PUBSUB_EMULATOR_HOST takes
        pubsub.topic("img-preprocessed")            -> "projects/darkroom-test/topics/img-preprocessed"
        pubsub.push("img-push", topic, "http://127.0.0.1:8001/pubsub", dead_letters=topic)
        pubsub.pull("img-watch")                    -> [Message], acknowledged

One that this machine does not have raises servers.Unavailable, with the reason.
"""
import base64
import contextlib
import dataclasses
import http.client
import json
import pathlib
import shutil

import servers

PROJECT = "darkroom-test"


def _launcher():
    """The emulator's start script: beside the gcloud in PATH, or where packages put the SDK."""
    gcloud = shutil.which("gcloud")
    roots = [pathlib.Path(gcloud).resolve().parents[1]] if gcloud else []
    for root in [*roots, pathlib.Path("/usr/lib/google-cloud-sdk"), pathlib.Path("/opt/google-cloud-sdk")]:
        path = root / "platform/pubsub-emulator/bin/cloud-pubsub-emulator"
        if path.is_file():
            return path
    raise servers.Unavailable("no Pub/Sub emulator: install the Google Cloud SDK with its pubsub-emulator")


@dataclasses.dataclass
class Message:
    message_id: str
    attributes: dict
    data: bytes
    attempt: int  # 0 without a dead-letter policy

    def json(self):
        return json.loads(self.data)


class PubsubEmulator(servers.Server):
    name = "pubsub-emulator"

    def __init__(self, folder, port=None):
        self.launcher = _launcher()
        if shutil.which("java") is None:
            raise servers.Unavailable("no Pub/Sub emulator: it needs Java")
        super().__init__(folder, port)

    @property
    def place(self):
        return f"127.0.0.1:{self.port}"

    def command(self):
        return [self.launcher, "--host=127.0.0.1", f"--port={self.port}"]

    def environment(self):
        return {"JAVA_OPTS": "-Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC", "HOME": str(self.folder)}

    def version(self):
        return "Google's Pub/Sub emulator"

    def make_bucket(self):
        pass

    def is_ready(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", f"/v1/projects/{PROJECT}/topics")[0] == 200
        return False

    def request(self, method, path, body=None):
        """(status, JSON) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * servers.SLOW)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else {}

    def call(self, method, path, body=None):
        status, answer = self.request(method, f"/v1/{path}", body)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def topic(self, name):
        """Make a topic: its full name."""
        return self.call("PUT", f"projects/{PROJECT}/topics/{name}")["name"]

    def subscription(self, name, topic, **options):
        return self.call("PUT", f"projects/{PROJECT}/subscriptions/{name}", {"topic": topic, **options})["name"]

    def push(self, name, topic, endpoint, dead_letters=None, attempts=5):
        """A push subscription, as the deployment makes it but for its token and its slower retries."""
        options = {"pushConfig": {"pushEndpoint": endpoint}, "ackDeadlineSeconds": 60,
                   "retryPolicy": {"minimumBackoff": "0.1s", "maximumBackoff": "1s"}}
        if dead_letters:
            options["deadLetterPolicy"] = {"deadLetterTopic": dead_letters, "maxDeliveryAttempts": attempts}
        return self.subscription(name, topic, **options)

    def publish(self, topic, data, **attributes):
        message = {"data": base64.b64encode(data).decode(), "attributes": attributes}
        return self.call("POST", f"{topic}:publish", {"messages": [message]})["messageIds"][0]

    def pull(self, subscription, count=100):
        """The messages that are there, acknowledged."""
        answer = self.call("POST", f"{subscription}:pull", {"maxMessages": count, "returnImmediately": True})
        received = answer.get("receivedMessages", [])
        if received:
            self.call("POST", f"{subscription}:acknowledge", {"ackIds": [r["ackId"] for r in received]})
        return [Message(r["message"]["messageId"], r["message"].get("attributes", {}),
                        base64.b64decode(r["message"].get("data", "")), r.get("deliveryAttempt", 0))
                for r in received]

    def delete(self, name):
        """A topic or a subscription."""
        self.call("DELETE", name)
