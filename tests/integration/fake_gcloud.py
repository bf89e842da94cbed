#!/usr/bin/python3 -IS
"""Stands in for gcloud in the tests of infra/cloudrun: keeps what is created in a JSON file, answers `describe` from
it, and writes down every command line. $FAKE_GCLOUD is the folder with state.json and calls.

With $REAL_GCLOUD set, Pub/Sub's own commands (all but IAM, which the emulator does not have) are those of
real_gcloud.py, which listens there.
"""
import fcntl
import json
import os
import sys

FOLDER = os.environ["FAKE_GCLOUD"]
NUMBER = "123456789"
VERBS = {"describe", "create", "create-oidc", "delete", "replace", "update", "update-traffic", "list", "enable", "rm",
         "get-iam-policy", "add-iam-policy-binding"}


class Refused(Exception):
    pass


def read(path):
    with open(path, encoding="utf-8") as file:  # pathlib takes longer to load than all of this takes to run
        return file.read()


def flag(words, name):
    return next((w.split("=", 1)[1] for w in words if w.startswith(f"--{name}=")), None)


def split(words):
    """(group, verb, name, rest)"""
    at = next(n for n, word in enumerate(words) if word in VERBS and n)
    rest = words[at + 1:]
    names = [word for word in rest if not word.startswith("--")]
    return " ".join(words[:at]), words[at], names[0] if names else "", rest


def replace(state, path):
    import site  # pylint: disable=import-outside-toplevel  # started without: it is quicker
    site.main()
    import yaml  # pylint: disable=import-outside-toplevel
    service = yaml.safe_load(read(path))
    name = service["metadata"]["name"]
    revision = f"{name}-{state.setdefault('revisions', 0):05}"
    state["revisions"] += 1
    url = f"https://{name}-{NUMBER}.europe-west1.run.app"
    service["status"] = {"url": url, "traffic": [
        {"revisionName": revision, "percent": 100, "latestRevision": True},
        {"revisionName": revision, "tag": "candidate", "url": url.replace("//", "//candidate---")}]}
    state["run services " + name] = service


def bucket(words, settings):
    if "--uniform-bucket-level-access" in words:
        settings["uniform_bucket_level_access"] = True
    if "--public-access-prevention" in words:
        settings["public_access_prevention"] = "enforced"
    if flag(words, "lifecycle-file"):
        rules = json.loads(read(flag(words, "lifecycle-file")))
        settings["lifecycle_config"] = rules
    if "--clear-lifecycle" in words:
        settings.pop("lifecycle_config", None)
    return settings


def subscription(words):
    return {
        "pushConfig": {"pushEndpoint": flag(words, "push-endpoint"), "oidcToken": {
            "serviceAccountEmail": flag(words, "push-auth-service-account"),
            "audience": flag(words, "push-auth-token-audience")}},
        "deadLetterPolicy": {"maxDeliveryAttempts": int(flag(words, "max-delivery-attempts") or 0), "deadLetterTopic":
                             f"projects/{os.environ['CLOUDSDK_CORE_PROJECT']}/topics/{flag(words, 'dead-letter-topic')}"},
        "retryPolicy": {"minimumBackoff": flag(words, "min-retry-delay"), "maximumBackoff": flag(words, "max-retry-delay")},
        "ackDeadlineSeconds": int(flag(words, "ack-deadline") or 10), "expirationPolicy": {},
    }


def answer(state, words):
    group, verb, name, rest = split(words)
    if group == "iam service-accounts" and verb == "create":
        name += f"@{os.environ['CLOUDSDK_CORE_PROJECT']}.iam.gserviceaccount.com"
    key = f"{group} {name}"
    if group == "projects":
        return NUMBER
    if group == "services":
        if verb == "enable":
            state["apis"] = sorted(set(state.get("apis", []) + rest))
        return "\n".join(state.get("apis", []))
    if group == "beta services identity":
        return ""
    if verb == "replace":
        return replace(state, name)
    if group == "storage" and verb == "rm":
        key = f"storage buckets {name}"
        verb = "delete"
    if verb in ("create", "create-oidc"):
        if key in state:
            raise Refused(f"ALREADY_EXISTS: {key}")
        state[key] = subscription(rest) if group == "pubsub subscriptions" else bucket(rest, {})
        return ""
    if key not in state:
        raise Refused(f"NOT_FOUND: {key} not found")
    if verb == "delete":
        del state[key]
        state.pop("policy " + key, None)
    elif verb == "update" and group == "storage buckets":
        bucket(rest, state[key])
    elif verb == "get-iam-policy":
        return json.dumps({"bindings": state.get("policy " + key, [])})
    elif verb == "add-iam-policy-binding":
        state.setdefault("policy " + key, []).append({"role": flag(rest, "role"), "members": [flag(rest, "member")]})
    elif verb == "describe":
        return json.dumps(state[key])
    return ""


def ask_real(words):
    import socket  # pylint: disable=import-outside-toplevel
    with socket.socket(socket.AF_UNIX) as real:
        real.connect(os.environ["REAL_GCLOUD"])
        socket.send_fds(real, [json.dumps([words, dict(os.environ)]).encode()], [1, 2])
        return real.recv(1)[0]


def main(words):
    with open(FOLDER + "/calls", "a", encoding="utf-8") as calls:
        calls.write(json.dumps(words) + "\n")
    if os.environ.get("REAL_GCLOUD") and words[0] == "pubsub" and "iam-policy" not in words[2]:
        sys.exit(ask_real(words))
    with open(FOLDER + "/lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = FOLDER + "/state.json"
        state = json.loads(read(path)) if os.path.exists(path) else {}
        if words[0] == "pubsub" and os.environ.get("REAL_GCLOUD"):  # its IAM: what it is of is elsewhere
            state.setdefault(f"{words[0]} {words[1]} {words[3]}", {})
        try:
            print(answer(state, words) or "")
        except Refused as refused:
            sys.exit(f"ERROR: (gcloud) {refused}")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(state, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
