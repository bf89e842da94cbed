"""The dependency rules of ARCHITECTURE.md, checked on the #include lines. Exits with 1 if one is broken."""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for top in ("common", "preprocess_service", "classify_service")
                 for path in (ROOT / top).rglob("*.[ch]"))

# The rooms of common/, from the ground: a room may include itself and rooms of lower floors.
FLOORS = [
    {"base"},
    {"http", "client", "image", "sandbox", "db"},
    {"grpc", "auth", "store", "events", "model"},
    {"objects"},
    {"workers", "catalogue", "users"},
    {"app"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Third-party headers and the only places that may include them.
OWNERS = {
    "microhttpd.h": r"common/http/server\.c",
    "nghttp2/": r"common/http/h2_session\.c",
    "protobuf-c/": r"common/grpc/message\.h",
    "zlib.h": r"common/http/encoding\.c",
    "curl/": r"common/(client/http_client|client/http_reply|store/bucket/libs3_transfer)\.[ch]",
    "vips/": r"common/image/.*",
    "jpeglib.h": r"common/image/(read|write)/jpeg_.*",
    "lcms2.h": r"common/image/read/(colours|cicp)\.c",
    "cairo": r"preprocess_service/pipeline/plot\.c",
    "onnxruntime": r"common/model/model\.c",
    "libs3.h": r"common/store/bucket/libs3.*\.c",
    "expat.h": r"common/store/bucket/xml\.c",
    "seccomp.h": r"common/sandbox/sandbox_filter\.c",
    "sqlite3.h": r"common/(events/outbox/outbox_db\.h|db/sqlite\.c)",
    "sodium.h": r"common/users/password\.c",
    "amqp": r"common/events/amqp/link\.c",
    "rabbitmq-c/": r"common/events/amqp/link\.c",
    "libpq-fe.h": r"common/db/postgres\.c",
}


def includes(path):
    return re.findall(r'^#include\s+["<]([^">]+)[">]', path.read_text(), re.M)


def room(path):
    return path.relative_to(ROOT / "common").parts[0]


def headers_of(service):
    return {path.name for path in (ROOT / service).glob("*.h")}


def forbidden(path, include):
    """The rule that this line breaks, or None."""
    service = path.relative_to(ROOT).parts[0]
    if service != "common":
        theirs = {"preprocess_service": "classify_service", "classify_service": "preprocess_service"}[service]
        if include in headers_of(theirs) - headers_of(service):
            return f"a service includes nothing of {theirs}"
    else:
        ours, other = room(path), include.split("/")[0]
        if other in FLOOR and other != ours and FLOOR[other] >= FLOOR[ours]:
            return f"{ours} is not above {other}"
        if "_service" in include:
            return "common includes nothing of the services"
    for header, owner in OWNERS.items():
        if include.startswith(header) and not re.fullmatch(owner, str(path.relative_to(ROOT))):
            return f"only {owner} may include {header}"
    return None


def main():
    lines = [(path, include) for path in SOURCES for include in includes(path)]
    broken = [f"{path.relative_to(ROOT)} includes {include}: {rule}"
              for path, include in lines if (rule := forbidden(path, include))]
    # A rule about nothing protects nothing.
    broken += [f"{header}: nothing includes it; OWNERS names it"
               for header in OWNERS if not any(include.startswith(header) for _, include in lines)]
    rooms = {room(path) for path in SOURCES if "common" in path.parts}
    broken += [f"common/{name}: either it or its place in FLOORS is missing" for name in sorted(rooms ^ set(FLOOR))]
    print("\n".join(broken) or f"{len(lines)} includes of {len(SOURCES)} files follow the rules")
    return 1 if broken else 0


sys.exit(main())
