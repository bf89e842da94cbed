"""A real Chromium, driven by the DevTools protocol over a pipe: Debian's package and nothing else."""
import base64
import contextlib
import fcntl
import json
import os
import pathlib
import re
import select
import shutil
import subprocess
import time

import pytest

from conftest import BUILD, SLOW, wait_for

# without the windows it takes a third of the processor time
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
REPORTS = BUILD / "reports"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: apt-get install chromium-headless-shell (0.5 GB)")

KEYS = {"Tab": 9, "Enter": 13, " ": 32}


def command(profile):
    """As root there is no sandbox; containers have a small /dev/shm."""
    return [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={profile}"]


class PageLeft(Exception):
    """The page was left, or loaded anew, while it was asked."""


class Chromium:
    def __init__(self, profile):
        there, self.output = os.pipe()
        self.input, back = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (there, back)]  # it reads from 3 and writes to 4
        self.log = pathlib.Path(profile, "log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "bash", *command(profile), "--remote-debugging-pipe"],
                pass_fds=ends, stdout=log, stderr=log)
        for end in (there, back, *ends):
            os.close(end)
        self.buffer, self.number, self.events = b"", 0, []

    def close(self):
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        self.process.wait(30)
        os.close(self.input)
        os.close(self.output)

    def call(self, method, session=None, **params):
        """The result of a command. What else arrives until then is kept in `events`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        with contextlib.suppress(BrokenPipeError):  # the answer will be that it has ended
            while data:
                data = data[os.write(self.output, data):]
        deadline = time.monotonic() + 60 * SLOW
        while True:
            reply = self.read(deadline)
            if reply.get("id") == self.number:
                if re.search("navigated|context", reply.get("error", {}).get("message", "")):
                    raise PageLeft
                assert "error" not in reply, (method, reply["error"])
                return reply["result"]
            self.events.append(reply)

    def read(self, deadline):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.input], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "Chromium does not answer"
            data = os.read(self.input, 1 << 20)
            assert data, f"Chromium has ended\n{self.log.read_text()[-3000:]}"
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    @contextlib.contextmanager
    def page(self, url, width=1200, height=900, scheme="light", phone=False):
        """A tab of its own, without what other tabs stored."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
            page = Page(self, context, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
            page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            page.call("Emulation.setTouchEmulationEnabled", enabled=phone)
            page.open(url)
            yield page
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    def __init__(self, browser, context, session):
        self.browser, self.context, self.session = browser, context, session
        browser.events.clear()
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self.call(domain + ".enable")

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def events(self, method):
        """What came of that kind; they are taken away."""
        self.call("Runtime.evaluate", expression="0")  # whatever is on its way arrives before its answer
        found = [event["params"] for event in self.browser.events if event.get("method") == method]
        self.browser.events = [event for event in self.browser.events if event.get("method") != method]
        return found

    def wait_event(self, method):
        return wait_for(lambda: self.events(method), method)[0]

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def reload(self):
        self.js("window.before = 1")
        self.call("Page.reload")
        self.until("!window.before && document.readyState === 'complete'")

    def js(self, expression):
        """The value of an expression, or of the promise that it is."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in done, (expression, done)
        return done["result"].get("value")

    def until(self, expression, timeout=30.0):
        def holds():
            with contextlib.suppress(PageLeft):
                return self.js(f"Boolean({expression})")
        return wait_for(holds, expression, timeout)

    def text(self, selector="body"):
        return self.js(f"document.querySelector({json.dumps(selector)}).innerText")

    def choose(self, *paths):
        """As if these files were chosen for the page's input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def key(self, name):
        code, text = KEYS[name], {"Enter": "\r", " ": " "}.get(name, "")
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, windowsVirtualKeyCode=code)

    def complaints(self):
        """Exceptions, and what the browser refused: a broken policy, for example."""
        thrown = [event["exceptionDetails"] for event in self.events("Runtime.exceptionThrown")]
        logged = [event["entry"] for event in self.events("Log.entryAdded")]
        return thrown + [entry["text"] for entry in logged if entry["source"] != "network"]

    def picture(self, path, whole=True, **how):
        """A screenshot, in the format of the file's name."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self.call("Page.captureScreenshot", format=path.suffix[1:], captureBeyondViewport=whole, **how)["data"]
        path.write_bytes(base64.b64decode(data))


@pytest.fixture(scope="module", name="chromium")
def fixture_chromium(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


# Of every text that is shown: its contrast to what is behind it (WCAG 2.2, 1.4.3), where that is too low.
CONTRAST = """(() => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => { for (let e = element; e; e = e.parentElement) {
        const colour = numbers(getComputedStyle(e).backgroundColor);
        if (colour.length === 3 || colour[3] > 0) return colour; } return [255, 255, 255]; };
    const poor = [];
    for (const element of document.body.querySelectorAll('*')) {
        const text = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!text || !element.checkVisibility() || element.closest('option')) continue;
        const [a, b] = [light(numbers(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) poor.push([element.outerHTML.slice(0, 80), (a + 0.05) / (b + 0.05)]);
    }
    return poor;
})()"""

# Of every control that is shown: those that are smaller than a finger (WCAG 2.2, 2.5.8).
SMALL = """[...document.querySelectorAll('button, input, select')].filter(e => e.checkVisibility()).map(e =>
    [e.outerHTML.slice(0, 80), e.closest('label.check') || e]).filter(([, e]) => Math.min(e.offsetWidth, e.offsetHeight) < 24)"""
