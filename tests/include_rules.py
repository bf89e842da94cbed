"""The dependency rules of ARCHITECTURE.md, checked on the #include lines. Exits with 1 if one is broken."""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for top in ("common", "preprocess_service", "classify_service")
                 for path in (ROOT / top).rglob("*.[ch]"))

# What a folder of common/ may include of the others; every folder includes itself and base.
ALLOWED = {
    "base": set(),
    "http": set(),
    "work": set(),
    "store": {"http"},
    "events": {"http"},
    "auth": {"http"},
    "image": set(),
    "service": {"http", "work", "store", "events", "auth", "image"},
}
# Third-party headers and the only places that may include them.
OWNERS = {
    "microhttpd.h": r"common/http/server\.c",
    "curl/": r"common/(http/client.*|store/libs3_transfer)\.[ch]",
    "vips/": r"common/image/.*",
    "jpeglib.h": r"common/image/jpeg_.*",
    "lcms2.h": r"common/image/colours\.c",
    "onnxruntime": r"classify_service/model\.c",
    "libs3.h": r"common/store/libs3.*\.c",
    "expat.h": r"common/store/xml\.c",
    "seccomp.h": r"common/work/sandbox_filter\.c",
    "sqlite3.h": r"common/events/outbox.*",
}


def includes(path):
    return re.findall(r'^#include\s+["<]([^">]+)[">]', path.read_text(), re.M)


def folder(path):
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
        room, other = folder(path), include.split("/")[0]
        if other in ALLOWED and other not in ALLOWED[room] | {room, "base"} and (ROOT / "common" / include).exists():
            return f"{room} may include {', '.join(sorted(ALLOWED[room] | {'base'}))}"
        if room in ("store", "events", "auth", "image") and \
                include in ("http/server.h", "http/request.h", "http/reply.h"):
            return f"{room} does not know the server"
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
    rooms = {folder(path) for path in SOURCES if "common" in path.parts}
    broken += [f"common/{room}: either it or its line in ALLOWED is missing" for room in rooms ^ set(ALLOWED)]
    print("\n".join(broken) or f"{len(lines)} includes of {len(SOURCES)} files follow the rules")
    return 1 if broken else 0


sys.exit(main())
