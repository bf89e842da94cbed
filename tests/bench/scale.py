"""What an upload costs each machine of a larger installation: CPU time of two preprocess and three classify instances,
the gateway, PostgreSQL, RabbitMQ and a storage server, while photographs are uploaded through the gateway.

    scale.py [UPLOADS]      default 2000
"""
import os
import pathlib
import subprocess
import sys
import tempfile

from processes import MODEL, PROGRAMS, ROOT
from inputs import make

sys.path.append(str(ROOT / "tests/integration"))
os.environ.setdefault("SEED", "0")  # of faults, which are not made here
import store_servers  # noqa: E402
from conftest import PHOTOS, tree, wait_for  # noqa: E402
from fault_world import OnAllEngines, s3_server  # noqa: E402
from gateway_world import processor_s  # noqa: E402


class Machines(OnAllEngines):
    def make_own(self):
        return super().make_own() | {"WORKERS": 2}

    def make_stack(self, preprocess_env, classify_env):
        return super().make_stack(preprocess_env, classify_env | {"MODEL": MODEL})

    def cpu_s(self):
        """name -> CPU time of all its processes."""
        pids = {"the storage server": [self.server.process.pid], "PostgreSQL": [self.database.process.pid],
                "RabbitMQ": [self.broker.process.pid]}
        for service in self.instances():
            pids.setdefault(service.name, []).append(service.process.pid)
        return {name: sum(processor_s(tree(pid)) for pid in each) for name, each in pids.items()}

    def labelled(self):
        return sum(service.metric('events_total{outcome="classified"}') for service in self.instances("classify"))


def run(folder, count):
    services = []
    world = Machines(folder, services, "bench")
    photos = make(PHOTOS, folder)["small"]
    try:
        world.start()
        upload = [PROGRAMS / "load", "--port", str(world.front.port), "--connections", "8"]
        subprocess.run([*upload, "--count", "100", *photos], check=True, stdout=subprocess.DEVNULL)
        wait_for(lambda: world.labelled() >= 100, "the first labels")
        before = world.cpu_s()
        subprocess.run([*upload, "--count", str(count), *photos], check=True, stdout=subprocess.DEVNULL)
        wait_for(lambda: world.labelled() >= 100 + count, "all labels", 600)
        return world.storage, {name: (after - before[name]) / count * 1000 for name, after in world.cpu_s().items()}
    finally:
        world.stop()


def main():
    if store_servers.why_not(s3_server() or "minio"):
        raise SystemExit("no storage server: " + store_servers.why_not("minio"))
    with tempfile.TemporaryDirectory() as folder:
        storage, cpu_ms = run(pathlib.Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    services = sum(ms for name, ms in cpu_ms.items() if name.endswith("-service"))
    print(f"CPU ms an upload, in parts of what both services take; the storage server is {storage}")
    for name, ms in cpu_ms.items():
        print(f"{name:20} {ms:6.2f} {ms / services:6.2f}")


if __name__ == "__main__":
    main()
