"""The real gcloud, loaded once: each command line runs in a fork of the process that loaded it, which spares the
second that loading takes. Runs on the Python that the Cloud SDK brings along:

    python3 real_gcloud.py SDK_ROOT SOCKET

It prints a line when it listens. fake_gcloud.py connects to SOCKET, sends words and environment with its stdout and stderr, and gets the exit status.
"""
import json
import os
import socket
import sys

SDK, PATH = sys.argv[1:]
sys.path[:0] = [SDK + "/lib", SDK + "/lib/third_party"]

# pylint: disable=import-error,wrong-import-position,unused-import
from googlecloudsdk import gcloud_main
from googlecloudsdk.api_lib.pubsub import subscriptions, topics


def run(words, environment, out, err):
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["gcloud", *words]
    try:
        sys.exit(gcloud_main.main())
    except SystemExit as stopped:
        return stopped.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(PATH)
    listener.listen()
    print("ready", flush=True)
    while True:
        caller, _ = listener.accept()
        request, files, *_ = socket.recv_fds(caller, 1 << 20, 2)
        child = os.fork()
        if child == 0:
            os._exit(run(*json.loads(request), *files))
        caller.send(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xff]))
        for file in files:
            os.close(file)
        caller.close()
