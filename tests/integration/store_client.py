"""build/<variant>/store-probe as a Python object: a store opened as the services open theirs."""
import base64
import json
import os
import subprocess

from conftest import BUILD


class StoreError(Exception):
    def __init__(self, slug, message, ms):
        super().__init__(f"{slug}: {message}")
        self.slug, self.message, self.ms = slug, message, ms


class Store:
    """Environment in; every call raises StoreError with the error's slug."""

    def __init__(self, folder, **env):
        self.env = {"PATH": os.environ["PATH"]}
        self.env |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        self.env |= {k: str(v) for k, v in env.items()}
        self.process = subprocess.Popen(
            [BUILD / "store-probe"], env=self.env, cwd=folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def call(self, op, **arguments):
        self.send(op, **arguments)
        return self.receive()

    def send(self, op, **arguments):
        self.process.stdin.write(json.dumps({"op": op} | arguments) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        assert line, f"the probe ended: {self.process.stderr.read()}"
        answer = json.loads(line)
        if not answer["ok"]:
            raise StoreError(answer["error"], answer["message"], answer["ms"])
        return answer

    def put(self, key, data=b"", **more):
        return self.call("put", key=key, data=base64.b64encode(data).decode(), **more)["existed"]

    def get(self, key, **more):
        answer = self.call("get", key=key, **more)
        return base64.b64decode(answer["data"]), answer

    def read(self, key, **more):
        return self.get(key, **more)[0]

    def head(self, key, **more):
        return self.call("head", key=key, **more)

    def delete(self, key, **more):
        self.call("delete", key=key, **more)

    def list(self, prefix="", **more):
        return dict(map(tuple, self.call("list", prefix=prefix, **more)["keys"]))

    def close(self):
        """The exit status must be 0: sanitizers make it something else."""
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        code = self.process.wait(60)
        errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        assert code == 0, errors


def refused_to_open(folder, **env):
    """What the probe says of a configuration that it does not take."""
    done = subprocess.run([BUILD / "store-probe"], env={"PATH": os.environ["PATH"]} | env, cwd=folder,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done
    return done.stderr
