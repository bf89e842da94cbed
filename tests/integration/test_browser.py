"""Uploads from a page of another origin, in a real browser: what it asks in its preflight is allowed."""
import contextlib
import http.server
import json
import os
import queue
import signal
import subprocess
import threading

from browser import command, needs_chromium
from conftest import SLOW, Service
from images import encode, gradient

# What upload widgets (Dropzone, Uppy, jQuery File Upload) and tracing libraries add to their requests.
HEADERS = {"X-Requested-With": "XMLHttpRequest", "Cache-Control": "no-cache", "X-Request-Id": "from-a-page",
           "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b", "baggage": "c=d"}

PAGE = """<!doctype html><script>
const service = SERVICE, headers = HEADERS;
async function run() {
    const picture = await (await fetch("/picture")).blob(), told = {};
    function upload(name, body, more) {
        return new Promise(done => {
            const xhr = new XMLHttpRequest();
            xhr.upload.onprogress = () => {};  // widgets show it; it makes every upload preflighted
            xhr.onload = () => { told[name] = [xhr.status, xhr.getResponseHeader("X-Request-Id"), xhr.getResponseHeader("Server-Timing")]; done(xhr); };
            xhr.onerror = () => { told[name] = ["refused by the browser"]; done(xhr); };
            xhr.open("POST", service + "/preprocess");
            for (const [key, value] of Object.entries(more)) xhr.setRequestHeader(key, value);
            xhr.send(body);
        });
    }
    const form = new FormData();
    form.append("file", picture, "p.jpg");
    form.append("width", "");
    for (const [key, value] of Object.entries(headers)) await upload(key, form, {[key]: value});
    await upload("untyped", new Blob([picture]), headers);
    const xhr = await upload("all", form, headers), image = service + "/images/" + JSON.parse(xhr.responseText).id;
    async function get(name, more) {
        try {
            const reply = await fetch(image, {headers: more, cache: "no-store"});
            told[name] = [reply.status, (await reply.blob()).size, reply.headers.get("Content-Range")];
            return reply.headers.get("ETag");
        } catch (e) { told[name] = ["refused by the browser"]; }
    }
    const etag = await get("plain", {});
    await get("unchanged", {"If-None-Match": etag});
    await get("range", {"Range": "bytes=0-9", "If-Range": etag});
    await get("two ranges", {"Range": "bytes=0-1,5-6"});  // not on the browser's list of harmless ones
    await upload("unknown", form, {"X-Not-Allowed": "1"});
    return told;
}
run().catch(e => ({error: String(e)})).then(told => fetch("/told", {method: "POST", body: JSON.stringify(told)}));
</script>"""


@contextlib.contextmanager
def page(text, picture):
    """Serves the page; yields its origin, and where what it posts arrives."""
    told = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = picture if self.path == "/picture" else text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg" if self.path == "/picture" else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", told
        server.shutdown()


@needs_chromium
def test_uploads_from_another_origin(tmp_path, services):
    picture = encode(gradient(64, 48))
    with page(lambda: PAGE.replace("SERVICE", json.dumps(f"http://127.0.0.1:{services[0].port}")).replace(
            "HEADERS", json.dumps(HEADERS)), picture) as (origin, told):
        services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", CORS_ORIGINS=origin))
        services[0].start()
        browser = subprocess.Popen([*command(tmp_path / "profile"), origin], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            seen = told.get(timeout=60 * SLOW)
        finally:
            os.killpg(browser.pid, signal.SIGTERM)  # Debian's is a script that waits for the browser
            browser.wait(30)
    size = seen["plain"][1]
    assert size > 100 and seen.pop("unknown") == ["refused by the browser"], "the browser does ask"
    assert {name: seen.pop(name) for name in ("plain", "unchanged", "range", "two ranges")} == {
        "plain": [200, size, None], "unchanged": [304, 0, None], "range": [206, 10, f"bytes 0-9/{size}"],
        "two ranges": [200, size, None]}
    assert set(seen) == set(HEADERS) | {"untyped", "all"}
    assert {name: reply[0] for name, reply in seen.items()} == dict.fromkeys(seen, 200)
    assert seen["all"][1] == "from-a-page"
    assert all("decode;dur=" in reply[2] for reply in seen.values())
