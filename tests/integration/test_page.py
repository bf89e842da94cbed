"""The page of preprocess_service: its files, and what it does in a real Chromium. Screenshots are in build/…/reports."""
import contextlib
import gzip
import json
import os
import pathlib
import re
import signal

import pytest

import things
from browser import CONTRAST, REPORTS, SMALL, fixture_chromium, needs_chromium  # noqa: F401 - a fixture
from conftest import MODEL, ROOT, Stack, wait_for
from images import coloured_jpeg, encode, gradient

pytestmark = pytest.mark.once
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}
FILES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
         "svg": "image/svg+xml"}
FILES |= {f"gallery.{extension}": FILES[extension] for extension in ("html", "css", "js")}


# ---- the files ----

def source(extension):
    return (ROOT / "preprocess_service/page" / f"page.{extension}").read_bytes()


@pytest.mark.parametrize("accept, html", [
    (HTML["Accept"], True), ("text/html", True), (None, False), ("*/*", False), ("application/json", False),
    ("application/json, text/html", False), ("text/html;q=0, */*", False),
])
def test_browsers_get_the_page_and_programs_json(shared, accept, html):
    reply = shared.preprocess.get("/", {"Accept": accept} if accept else {})
    assert (reply.status, reply.headers["Vary"]) == (200, "Accept, Accept-Encoding" if html else "Accept")
    if html:
        assert (reply.headers["Content-Type"], reply.body) == (FILES["html"], source("html"))
    else:
        assert reply.headers["Content-Type"] == "application/json"
        assert set(reply.json()) == {"name", "version", "links"}


@pytest.mark.parametrize("path", ["/", *(f"/page.{extension}" for extension in FILES)])
def test_a_file_of_the_page(shared, path):
    extension = path.partition(".")[2] or "html"
    reply = shared.preprocess.get(path, HTML)
    assert (reply.status, reply.headers["Content-Type"], reply.body) == (200, FILES[extension], source(extension))
    assert reply.headers["Cache-Control"] == "no-cache" and reply.headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
    assert policy == {name + "-src": "'self'" for name in ("script", "style", "connect")} | {
        name: "'none'" for name in ("default-src", "base-uri", "form-action", "frame-ancestors")} | {"img-src": "'self' blob:"}
    unchanged = shared.preprocess.get(path, HTML | {"If-None-Match": reply.headers["ETag"]})
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", reply.headers["ETag"])
    assert shared.preprocess.get(path, HTML | {"If-None-Match": '"another"'}).body == reply.body
    head = shared.preprocess.request("HEAD", path, headers=HTML)
    assert (head.status, head.body) == (200, b"")
    assert {name: head.headers[name] for name in ("Content-Length", "ETag", "Content-Type")} == {
        "Content-Length": str(len(reply.body)), "ETag": reply.headers["ETag"], "Content-Type": FILES[extension]}


@pytest.mark.parametrize("path", ["/", *(f"/page.{extension}" for extension in FILES)])
def test_a_file_is_packed_for_who_takes_it(shared, path):
    plain = shared.preprocess.get(path, HTML)
    reply = shared.preprocess.get(path, HTML | {"Accept-Encoding": "gzip, deflate, br, zstd"})
    assert (reply.headers["Content-Encoding"], gzip.decompress(reply.body)) == ("gzip", plain.body)
    assert "Accept-Encoding" in plain.headers["Vary"] and reply.headers["Vary"] == plain.headers["Vary"]
    assert reply.headers["ETag"] != plain.headers["ETag"]
    for headers, same in (({"Accept-Encoding": "gzip"}, reply), ({}, plain)):
        unchanged = shared.preprocess.get(path, HTML | headers | {"If-None-Match": same.headers["ETag"]})
        assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", same.headers["ETag"])
        other = plain if same is reply else reply
        assert shared.preprocess.get(path, HTML | headers | {"If-None-Match": other.headers["ETag"]}).body == same.body
    for refused in ("gzip;q=0", "br", "identity"):
        assert shared.preprocess.get(path, HTML | {"Accept-Encoding": refused}).body == plain.body


def test_no_other_files(shared):
    for path in ("/page.md", "/page.", "/page", "/page.html/", "/page.js.map", "/page.webp"):
        assert shared.preprocess.get(path, HTML).status == 404, path


def test_nothing_from_elsewhere_and_nothing_inline():
    for extension in FILES:
        text = source(extension).decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//\w+\.|@import|\beval\b|innerHTML", text), extension
        if extension.endswith("html"):
            assert not re.search(r"<style|<script(?! src=)|\s(style|on\w+)=", text), extension


def test_it_is_small():
    weights = {extension: len(source(extension)) for extension in FILES}
    gallery = sum(weight for extension, weight in weights.items() if "gallery" in extension)
    assert gallery <= 20 << 10 and sum(weights.values()) - gallery <= 36 << 10, weights


def test_its_first_visit_is_smaller_on_the_way(shared):
    packed = sum(len(shared.preprocess.get(path, HTML | {"Accept-Encoding": "gzip"}).body)
                 for path in ("/", "/page.css", "/page.js", "/page.svg"))
    assert packed <= 14 << 10


def test_it_has_every_option(shared):
    post = shared.preprocess.get("/openapi.json").json()["paths"]["/transform"]["post"]
    options = {p["name"]: p["schema"] for p in post["parameters"] if p["in"] == "query"}
    html, script = source("html").decode(), source("js").decode()
    form = html[html.index("<form"):html.index("</form>")]
    assert set(re.findall(r' name="(\w+)"', form)) == set(options)
    for name in ("fit", "format"):
        choices = form.split(f'name="{name}"')[1].split("</select>")[0]
        assert set(re.findall(r'value="(\w+)"', choices)) == set(options[name]["enum"]) - {"jpg"}
        assert f'value="{options[name]["default"]}" selected' in choices
    for name in ("median", "mean"):
        assert f'["{name}", {options[name]["maximum"]}]' in script


# ---- in a browser ----

UNREACHABLE = "The service cannot be reached. Check that it runs, then try again."


@pytest.fixture(name="open_page")
def fixture_open_page(chromium, shared):
    """open_page(width=…): the page in a tab of its own, which must have had nothing to complain about at the end."""
    with contextlib.ExitStack() as tabs:
        pages = []

        def open_page(stack=shared, **how):
            pages.append(tabs.enter_context(chromium.page(stack.preprocess.url, **how)))
            return pages[-1]
        yield open_page
        assert [page.complaints() for page in pages] == [[] for page in pages]


@pytest.fixture(name="photo")
def fixture_photo(tmp_path):
    return saved(tmp_path / "daisy.png", things.daisy())


def saved(path, picture):
    path.write_bytes(picture if isinstance(picture, bytes) else encode(picture, "PNG", compress_level=1))
    return path


def previewed(page):
    page.until("document.querySelector('#preview-facts').textContent && !document.body.classList.contains('busy')")
    return page.text("#preview-facts")


def store(page):
    page.js("document.querySelector('#store').click()")


def labelled(page, cards=1):
    page.until(f"document.querySelectorAll('.bars li').length === {5 * cards}")
    page.js("Promise.all([...document.images].map(image => image.decode().catch(() => {})))")


def problem_of_card(page):
    page.until("document.querySelector('.card .problem:not([hidden])')")
    return page.text(".card .problem")


def stored(page):
    return json.loads(page.js("sessionStorage.darkroom") or "[]")


@needs_chromium
def test_from_upload_to_label(open_page, shared, photo):
    page = open_page()
    page.picture(REPORTS / "page-empty.png")
    page.choose(photo)
    assert re.fullmatch(rf"256 × 256, JPEG, \d+ KB; was {round(photo.stat().st_size / 1000)} KB", previewed(page))
    assert stored(page) == [] and not page.js("document.querySelector('#cards').children.length"), "nothing before it is asked for"
    page.picture(REPORTS / "page-chosen.png")
    store(page)
    labelled(page)
    page.picture(REPORTS / "page-stored.png")
    item, = stored(page)
    result = shared.preprocess.get("/results/" + item["reply"]["id"]).json()
    shown = page.js("[...document.querySelectorAll('.bars li')].map(li => [...li.querySelectorAll('span')].map(s => s.textContent))")
    assert shown == [[guess["label"], f"{100 * guess['confidence']:.1f} %"] for guess in result["top"]]
    widths = page.js("[...document.querySelectorAll('.bars i')].map(i => i.offsetWidth / i.parentElement.offsetWidth)")
    assert widths[0] == pytest.approx(result["confidence"], abs=0.02) and widths == sorted(widths, reverse=True)
    stages = page.js("[...document.querySelectorAll('.card .stages li')].map(li => li.textContent)")
    assert [stage.split()[0] for stage in stages if re.fullmatch(r"\w+ [\d.]+ ms", stage)][-1] == "publish"
    assert page.js("document.querySelector('.card img').naturalWidth") == 256
    assert page.js("document.querySelector('.card img').alt") == f"daisy.png: {result['label']}"
    assert page.text("#status").startswith("daisy.png: ")
    link = page.js("document.querySelector('.link').value")
    assert link == f"{shared.preprocess.url}/images/{item['reply']['id']}.jpg"
    assert shared.preprocess.get(link.removeprefix(shared.preprocess.url)).status == 200
    page.browser.call("Browser.grantPermissions", browserContextId=page.context, permissions=["clipboardReadWrite"])
    page.js("document.querySelector('.copy').click()")
    page.until("document.querySelector('.copy').textContent === 'Copied'")
    assert page.js("navigator.clipboard.readText()") == link


@needs_chromium
def test_the_browser_keeps_the_policy(open_page):
    """Else the absence of complaints at the end of each test would mean nothing."""
    page = open_page()
    for what in ("document.body.setAttribute('style', 'color: red')", "new Image().src = 'http://127.0.0.1:1/x.png'",
                 "document.head.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"):
        page.js(f"void ({what})")
        complaint, = wait_for(page.complaints, f"a complaint about {what}")
        assert "Content Security Policy" in complaint
    assert not page.js("window.ran")


def set_field(page, name, value):
    page.js(f"""(() => {{ const field = document.forms[0].elements.{name};
        field[field.type === 'checkbox' ? 'checked' : 'value'] = {json.dumps(value)};
        field.dispatchEvent(new Event('input', {{bubbles: true}})); }})()""")


def asked(page):
    """The options of the previews that were asked for."""
    urls = [event["request"]["url"] for event in page.events("Network.requestWillBeSent") if event["request"]["method"] == "POST"]
    return [url.partition("/transform?")[2] for url in urls]


@needs_chromium
def test_options_are_previewed(open_page, shared, photo):
    page = open_page()
    page.choose(photo)
    previewed(page)
    assert asked(page) == [""], "defaults are left out"
    for name, value in (("width", "300"), ("height", "100"), ("fit", "contain"), ("format", "png"), ("median", "5"),
                        ("mean", "7"), ("rotate", "30"), ("background", "#102030")):
        set_field(page, name, value)
    page.until("document.querySelector('#preview-facts').textContent.startsWith('300 × 100, PNG')")
    query = "width=300&height=100&fit=contain&format=png&median=5&mean=7&rotate=30&background=102030"
    assert len(asked(page)) == 1, "once for all of them"
    assert page.js("document.forms[0].elements.quality.disabled"), "PNG has none"
    # what is overtaken is aborted
    shared.preprocess.process.send_signal(signal.SIGSTOP)
    page.js("document.querySelector('#quarter').click()")
    page.until("performance.now() && document.body.classList.contains('busy')")
    page.wait_event("Network.requestWillBeSent")
    set_field(page, "fit", "none")
    assert page.wait_event("Network.loadingFailed")["canceled"]
    shared.preprocess.process.send_signal(signal.SIGCONT)
    page.until("!document.querySelector('#preview-facts').textContent.startsWith('300')")
    # and what is seen is what is stored
    page.js("document.forms[0].reset()")
    for part in query.split("&"):
        name, value = part.split("=")
        set_field(page, name, "#" + value if name == "background" else value)
    store(page)
    labelled(page)
    reply = stored(page)[0]["reply"]
    assert reply["id"] == shared.preprocess.upload(photo.read_bytes(), "?" + query).json()["id"]
    assert (reply["width"], reply["height"], reply["format"]) == (300, 100, "png")


@needs_chromium
def test_pasted_and_dropped(open_page):
    page = open_page()
    for number, event in enumerate(("new ClipboardEvent('paste', {clipboardData: data, bubbles: true})",
                                    "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})")):
        page.js(f"""(async () => {{
            const canvas = new OffscreenCanvas(40 + {number}, 30), data = new DataTransfer();
            canvas.getContext('2d').fillRect(0, 0, 9, 9);
            data.items.add(new File([await canvas.convertToBlob()], 'picture{number}.png'));
            document.body.dispatchEvent({event});
        }})()""")
        assert page.text("#status") == "1 picture chosen"
    assert page.js("document.querySelectorAll('#tray .show').length") == 2
    assert previewed(page)
    page.js("document.querySelectorAll('#tray .remove')[0].click()")
    assert page.js("[...document.querySelectorAll('#tray .show')].map(button => button.ariaLabel)") == ["Preview picture1.png"]
    assert page.text("#status") == "picture0.png removed" and page.js("document.activeElement.ariaLabel") == "Remove picture1.png"


@needs_chromium
def test_twelve_at_once_and_a_reload(open_page, tmp_path):
    page = open_page()
    page.js("""(() => { window.now = window.most = 0; const send = XMLHttpRequest.prototype.send;
        XMLHttpRequest.prototype.send = function (body) {
            most = Math.max(most, ++now);
            this.addEventListener('readystatechange', () => now -= this.readyState === 4);
            send.call(this, body); }; })()""")
    page.choose(*(saved(tmp_path / f"{n}.jpg", coloured_jpeg(n)) for n in range(12)))
    assert previewed(page)
    assert page.text("#store") == "Store and label 12 pictures"
    store(page)
    labelled(page, 12)
    assert page.js("most") == 3, "a few at a time"
    names = "[...document.querySelectorAll('.card h3')].map(h => h.textContent)"
    assert page.js(names) == [f"{n}.jpg" for n in range(12)]
    page.picture(REPORTS / "page-twelve.png")
    before = page.text("#cards")
    page.reload()
    labelled(page, 12)
    assert page.text("#cards") == before, "a reload keeps them"
    page.js("document.querySelector('#clear').click()")
    assert page.js("document.querySelector('#results').hidden") and stored(page) == []


@needs_chromium
def test_errors_in_words(open_page, tmp_path, photo):
    page = open_page()
    large = saved(tmp_path / "large.jpg", b"")
    os.truncate(large, 40_000_000)
    page.choose(large)
    page.until("!document.querySelector('#preview-problem').hidden")
    assert re.fullmatch(r"the body is larger than \d+ bytes", page.text("#preview-problem"))
    page.js("document.querySelector('#tray .remove').click()")
    page.choose(saved(tmp_path / "notes.jpg", b"no picture"))
    page.until("document.querySelector('#preview-name').textContent === 'notes.jpg' && !document.body.classList.contains('busy')")
    words = page.text("#preview-problem")
    assert words == "not a JPEG, PNG, WebP, GIF, TIFF, HEIC or AVIF image"
    page.choose(saved(tmp_path / "cut.jpg", encode(gradient(64, 64))[:-300]))
    store(page)
    page.until("document.querySelectorAll('.card .problem:not([hidden])').length === 2")
    texts = page.js("[...document.querySelectorAll('.card .problem')].map(p => p.textContent)")
    assert texts[0] == words and texts[1] and not texts[1].startswith("The service")
    assert page.js("[...document.querySelectorAll('.again')].every(b => b.hidden)"), "the same again would be refused, too"
    page.choose(photo)
    previewed(page)
    set_field(page, "width", "99999")
    page.until("!document.querySelector('#preview-problem').hidden && document.querySelector('#preview-picture').hidden")
    assert page.text("#preview-problem") == "width: must be a whole number from 1 to 65535"
    assert page.js("[...document.querySelectorAll('[aria-invalid=true]')].map(f => f.name)") == ["width"]
    page.picture(REPORTS / "page-errors.png")
    store(page)
    assert page.js("document.querySelectorAll('.card').length") == 2, "the browser holds it back"
    set_field(page, "width", "9")
    page.until("document.querySelector('#preview-problem').hidden")
    assert not page.js("document.querySelector('[aria-invalid=true]')")


@needs_chromium
def test_the_service_goes_away(open_page, shared, tmp_path):
    page = open_page()
    page.choose(saved(tmp_path / "large.png", encode(gradient(2200, 1600), "PNG", compress_level=0)))
    previewed(page)
    shared.preprocess.process.send_signal(signal.SIGSTOP)
    store(page)
    page.until("/[1-9]\\d* %/.test(document.querySelector('.sending').textContent)")
    page.picture(REPORTS / "page-sending.png")
    shared.preprocess.kill()
    assert problem_of_card(page) == UNREACHABLE
    page.picture(REPORTS / "page-unreachable.png")
    shared.preprocess.restart()
    page.js("document.querySelector('.again').click()")
    labelled(page)


@needs_chromium
def test_no_label(open_page, shared, tmp_path):
    """The classifier does not answer."""
    page = open_page()
    page.choose(saved(tmp_path / "unseen.jpg", coloured_jpeg(99)))
    previewed(page)
    shared.classify.process.send_signal(signal.SIGSTOP)
    try:
        store(page)
        page.until("document.querySelector('.sending span').textContent === 'Labelling'")
        page.js("(() => { const now = Date.now; Date.now = () => now() + 61000; })()")
        assert problem_of_card(page).startswith("No label after a minute.")
    finally:
        shared.classify.process.send_signal(signal.SIGCONT)
    page.js("document.querySelector('.again').click()")
    labelled(page)


@needs_chromium
def test_by_keyboard_alone(open_page, photo):
    page = open_page()
    page.call("Page.setInterceptFileChooserDialog", enabled=True)

    def tab_to(expression):
        for _ in range(40):
            page.key("Tab")
            assert page.js("document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'"
                           ), "the focus is visible"
            if page.js(f"(document.activeElement === {expression})"):
                return
        raise AssertionError(f"no way to {expression}")

    tab_to("document.querySelector('#empty .choose')")
    page.key("Enter")
    chooser = page.wait_event("Page.fileChooserOpened")
    page.call("DOM.setFileInputFiles", backendNodeId=chooser["backendNodeId"], files=[str(photo)])
    previewed(page)
    tab_to("document.forms[0].elements.remove_background")
    page.key(" ")
    assert page.js("document.forms[0].elements.remove_background.checked")
    page.key(" ")
    previewed(page)
    tab_to("document.querySelector('#store')")
    page.key("Enter")
    page.until("document.activeElement.id === 'results-title'")
    labelled(page)
    tab_to("document.querySelector('.copy')")
    page.picture(REPORTS / "page-focus.png")
    page.key("Enter")
    page.until("document.querySelector('#status').textContent === 'Link copied'")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {node["role"]["value"]: node.get("name", {}).get("value") for node in nodes if not node["ignored"] and any(
        p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", []))}
    assert {"button", "textbox", "combobox", "spinbutton", "checkbox", "link"} <= set(named)
    assert all(named.values()), named


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_on_a_phone_and_in_the_dark(open_page, tmp_path, photo, width, scheme):
    page = open_page(width=width, height=844, phone=width < 400, scheme=scheme)
    assert page.js("document.querySelector('#empty .big').checkVisibility()") == (width > 400), "a finger drops no files"
    page.choose(photo, saved(tmp_path / ("a_very_long_name" * 8 + ".jpg"), coloured_jpeg(1)))
    previewed(page)
    store(page)
    labelled(page, 2)
    page.choose(saved(tmp_path / "notes.jpg", b"no picture"), photo)
    page.until("!document.querySelector('#preview-problem').hidden")
    store(page)
    problem_of_card(page)
    page.choose(photo)
    previewed(page)
    page.picture(REPORTS / f"page-{scheme}-{width}.png")
    assert page.js("document.documentElement.scrollWidth") <= width, "nothing to scroll sideways"
    assert page.js(CONTRAST) == []
    page.js("document.querySelector('header p').style.color = '#777'")
    assert len(page.js(CONTRAST)) == 1, "it is measured"
    assert page.js(SMALL) == [], "what a finger can hit (WCAG 2.2, 2.5.8)"
    dark = page.js("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).every(v => v < 128)")
    assert dark == (scheme == "dark")


@needs_chromium
def test_the_readmes_picture(open_page, services, tmp_path):
    """PAGE_PICTURE=preprocess_service/page/page.webp renews it."""
    model = MODEL.with_name("u2netp.json")
    services.append(Stack(tmp_path, preprocess_env={"BACKGROUND_MODEL": model}))
    page = open_page(services[0].start(), width=1120, height=1070)
    page.call("Emulation.setScrollbarsHidden", hidden=True)
    traffic_light, balloon, daisy = (saved(tmp_path / f"{draw.__name__}.png", draw())
                                     for draw in (things.traffic_light, things.balloon, things.daisy))
    page.choose(traffic_light, daisy)
    previewed(page)
    store(page)
    labelled(page, 2)
    page.choose(balloon, daisy, traffic_light)
    for name, value in (("width", "480"), ("fit", "inside"), ("format", "webp"),
                        ("remove_background", model.exists())):
        set_field(page, name, value)
    page.until("document.querySelector('#preview-facts').textContent.includes('WebP')")
    path = pathlib.Path(os.environ.get("PAGE_PICTURE", REPORTS / "page.webp"))
    page.js("document.activeElement.blur()")
    page.picture(path, whole=False, quality=45)
    assert path.stat().st_size < 60000
