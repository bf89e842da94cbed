"""The page's gallery in a real Chromium, of 2,000 pictures. Screenshots are in build/…/reports."""
import base64
import contextlib
import hashlib
import json
import os
import pathlib
import sqlite3

import pytest

from accounts import PASSWORD, USERS, call, join, sign_up, token_of
from browser import CONTRAST, REPORTS, SMALL, fixture_chromium, needs_chromium  # noqa: F401 - a fixture
from conftest import Service, wait_for
from images import coloured_jpeg, encode, gradient

pytestmark = [pytest.mark.once, needs_chromium]
PICTURES = 2000
LABELS = ["daisy", "golden retriever", "traffic light", "balloon", "teapot"]


def id_of(n):
    return hashlib.sha256(b"%d" % n).hexdigest()


def stock(service):
    """2,000 pictures of the year 2020, number 0 the oldest: three of five are alice's, the others bob's."""
    with contextlib.closing(sqlite3.connect(service.folder / "catalogue.db", timeout=30)) as db:
        wait_for(lambda: db.execute("SELECT value FROM catalogue_meta WHERE name = 'rebuild'").fetchone() == (0,),
                 "the new catalogue to be filled: its filler would find files without a row")
    bob = token_of(service, "bob")
    sample = call(service, "POST", "/preprocess", encode(gradient(64, 48)), bob, Content_Type="image/jpeg").json()
    folder = pathlib.Path(sample["gcs_path"].removeprefix("file://")).parent
    kinds = [coloured_jpeg(n) for n in range(7)]
    rows = []
    for n in range(PICTURES):
        (folder / f"{id_of(n)}.jpg").write_bytes(kinds[n % 7])
        label = LABELS[n % len(LABELS)]
        rows.append((1_580_000_000_000_000 + n, id_of(n), "bob" if n % 5 in (1, 3) else "alice", "jpeg", 64, 48,
                     len(kinds[n % 7]), label, 0.9, json.dumps([[label, 0.9], ["plant", 0.05]])))
    with contextlib.closing(sqlite3.connect(service.folder / "catalogue.db", timeout=30)) as db, db:
        db.executemany("INSERT INTO image (seq, id, owner, format, width, height, bytes, label, confidence, labels) "
                       "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.executemany("INSERT INTO image_tag VALUES (?, ?)", [(tag, row[0]) for row in rows for tag in (row[7], "plant")])
    assert call(service, "DELETE", "/v1/images/" + sample["id"], token=bob).status == 204


@pytest.fixture(scope="module", name="stocked")
def fixture_stocked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "keys").write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    service = Service("preprocess-service", folder, EVENTS_URL="none:", SEAL_KEYS_FILE=folder / "keys", **USERS)
    try:
        service.start()
        join(service, "alice")
        join(service, "bob")
        stock(service)
        yield service
    finally:
        service.stop()


@pytest.fixture(name="open_gallery")
def fixture_open_gallery(chromium, stocked):
    """open_gallery(name): the gallery in a tab of its own, signed in; at the end nothing was complained about."""
    with contextlib.ExitStack() as tabs:
        pages = []

        def open_gallery(name="alice", service=stocked, **how):
            page = tabs.enter_context(chromium.page(service.url + "/#gallery", **how))
            pages.append(page)
            if name:
                page.until("document.querySelector('#account:not([hidden])') && document.querySelector('#sign-in')")
                fill_sign_in(page, name)
                page.until("!document.querySelector('#sign-in').open")
                listed(page)
            return page
        yield open_gallery
        assert [page.complaints() for page in pages] == [[] for page in pages]


def fill_sign_in(page, name, password=PASSWORD, button=""):
    page.js("document.querySelector('#account').click()")
    page.until("document.querySelector('#sign-in')?.open")
    page.js(f"""(() => {{ const form = document.querySelector('#sign-in form');
        form.elements.name.value = {json.dumps(name)}; form.elements.password.value = {json.dumps(password)};
        form.requestSubmit(form.querySelector('button{button}')); }})()""")


def listed(page, condition="tiles > 0"):
    page.until(f"(tiles => {condition})(document.querySelectorAll('.tile').length)")


def ids(page):
    return page.js("[...document.querySelectorAll('.tile')].map(tile => tile.dataset.id)")


def look_for(page, text, by="tag", owner=""):
    """Search, and wait for its end: one that goes on has no words about it yet."""
    page.js(f"""(() => {{ const form = document.querySelector('#filter'), {{elements}} = form;
        document.querySelector('#status').textContent = '';
        elements.text.value = {json.dumps(text)}; elements.by.value = '{by}'; elements.owner.value = '{owner}';
        form.requestSubmit(); }})()""")
    page.until("document.querySelector('#status').textContent")


def expected(wanted=lambda n: True):
    return [id_of(n) for n in reversed(range(PICTURES)) if wanted(n)]


def to_the_end(page, count):
    """Scroll as long as there is more."""
    while len(ids(page)) < count:
        before = len(ids(page))
        page.js("scrollTo(0, document.documentElement.scrollHeight)")
        listed(page, f"tiles > {before}")


def status(service, id_, name="alice"):
    return call(service, "GET", "/v1/images/" + id_, token=token_of(service, name)).status


def test_two_thousand_pictures_by_scrolling(open_gallery):
    page = open_gallery()
    assert ids(page) == expected()[:200], "a page, and not the next before it is near"
    page.until("document.querySelector('.tile img').naturalWidth")
    page.picture(REPORTS / "gallery.png", whole=False)
    to_the_end(page, PICTURES)
    assert ids(page) == expected(), "each once, the newest first"
    page.until("document.querySelector('#more').hidden")
    assert page.text("#status") == "2000 pictures"
    shown = page.js("[...document.images].filter(image => image.naturalWidth).length")
    assert shown < PICTURES, "pictures are fetched when they come near"


def test_scrolling_in_a_busy_browser(open_gallery):
    """Looks at the end of the list come together: that it was not in sight, and that it is."""
    page = open_gallery()
    page.call("Page.addScriptToEvaluateOnNewDocument", source="""window.IntersectionObserver = class extends IntersectionObserver {
        constructor(tell, options) {
            super(looks => tell([{isIntersecting: false, target: looks[0].target}, ...looks]), options);
        }
    };""")
    page.reload()
    listed(page)
    to_the_end(page, 400)
    assert ids(page)[:400] == expected()[:400]


def test_search(open_gallery):
    page = open_gallery()
    look_for(page, "teapot", "label")
    assert ids(page) == expected(lambda n: n % 5 == 4)[:200]
    look_for(page, "plant")
    assert ids(page) == expected()[:200], "what is not the best label, too"
    look_for(page, "plant", "label")
    assert ids(page) == [] and page.text("#nothing") == "No picture has exactly this."
    look_for(page, "", owner="me")
    assert ids(page) == expected(lambda n: n % 5 not in (1, 3))[:200]
    look_for(page, "balloon", "label")
    to_the_end(page, 220)
    assert ids(page) == expected(lambda n: n % 5 == 3)[:len(ids(page))], "the next pages, too"
    page.js("document.querySelector('.tile .label').click()")
    page.until("document.querySelector('#filter').elements.text.value === 'balloon'")


def test_tags(open_gallery, stocked):
    page = open_gallery()
    first = ids(page)[0]
    page.js("document.querySelector('.tile .edit').click()")
    assert page.js("document.activeElement.name") == "tags"
    page.call("Input.insertText", text=" garden,summer , garden")
    page.key("Enter")
    page.until("document.querySelectorAll('.tile .tag').length === 2")
    assert page.js("document.activeElement.className") == "edit"
    got = call(stocked, "GET", "/v1/images/" + first, token=token_of(stocked, "alice")).json()
    assert [tag["tag"] for tag in got["tags"] if tag["confidence"] is None] == ["garden", "summer"]
    page.js("document.querySelector('.tile .tag').click()")
    page.until("document.querySelectorAll('.tile').length === 1")
    assert ids(page) == [first]
    page.js("document.querySelector('.tile .edit').click()")
    page.js("document.querySelector('.tile form').elements.tags.value = 'x'.repeat(200)")
    page.key("Enter")
    page.until("document.querySelector('.tile .problem:not([hidden])')")
    assert "tags" in page.text(".tile .problem")


def test_only_ones_own_are_changed(open_gallery):
    page = open_gallery("bob")
    own = page.js("[...document.querySelectorAll('.tile')].map(tile => tile.querySelector('.delete').checkVisibility())")
    assert own == [n % 5 in (1, 3) for n in reversed(range(PICTURES - 200, PICTURES))]


def delete(page, id_):
    page.js(f"document.querySelector('.tile[data-id=\"{id_}\"] .delete').click()")
    page.until("document.activeElement.className === 'undo'")


def test_delete_with_undo(open_gallery, stocked):
    page = open_gallery()
    look_for(page, "daisy", "label")
    kept, gone, left, *_ = ids(page)
    page.events("Network.requestWillBeSent")
    delete(page, kept)
    page.key("Enter")
    page.until("document.activeElement.className === 'delete'")
    page.js("(() => { const real = setTimeout; window.setTimeout = (f, ms) => real(f, ms / 50); })()")
    delete(page, gone)
    page.until(f"!document.querySelector('[data-id=\"{gone}\"]')")
    assert page.js("document.activeElement.closest('.tile').dataset.id") == left, "the focus is not lost"
    assert [status(stocked, id_) for id_ in (kept, gone)] == [200, 404]
    page.js("window.setTimeout = () => 0")
    delete(page, left)
    look_for(page, "daisy", "label")
    assert page.js(f"document.querySelector('[data-id=\"{left}\"] .undo').checkVisibility()"), "a new list knows it, too"
    assert status(stocked, left) == 200
    page.call("Page.navigate", url="about:blank")
    wait_for(lambda: status(stocked, left) == 404, "the deletion when the page is left")
    methods = [event["request"]["method"] for event in page.events("Network.requestWillBeSent")]
    assert methods.count("DELETE") <= 2 and status(stocked, kept) == 200


def test_what_cannot_be_deleted_comes_back(open_gallery, stocked):
    page = open_gallery()
    first = ids(page)[0]
    page.js("(() => { const real = setTimeout; window.setTimeout = (f, ms) => real(f, 0); })()")
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.js("document.querySelector('.tile .delete').click()")
    page.until("document.querySelector('.tile .problem:not([hidden])')")
    assert page.text(".tile .problem").startswith("The service cannot be reached.")
    assert page.js("document.querySelector('.tile .delete').checkVisibility()") and status(stocked, first) == 200


def test_sealed_pictures_are_shown_to_their_owner(open_gallery, stocked):
    alice = token_of(stocked, "alice")
    reply = call(stocked, "POST", "/preprocess?seal=1", encode(gradient(64, 48)), alice, Content_Type="image/jpeg").json()
    try:
        page = open_gallery()
        page.until("document.querySelector('.tile img').naturalWidth === 256")
        assert ids(page)[0] == reply["id"] and page.js("document.querySelector('.tile img').src").startswith("blob:")
        assert page.text(".tile .facts").endswith("alice, sealed")
        assert reply["id"] not in ids(open_gallery("bob"))
    finally:
        assert call(stocked, "DELETE", "/v1/images/" + reply["id"], token=alice).status == 204


def test_signing_in_and_out(open_gallery, stocked):
    page = open_gallery(None)
    page.until("document.querySelector('#account:not([hidden])') && document.querySelector('#gallery-problem:not([hidden])')")
    assert ids(page) == [] and page.text("#account") == "Sign in"
    page.picture(REPORTS / "gallery-nobody.png")
    fill_sign_in(page, "alice", "wrong password")
    page.until("document.querySelector('#sign-in .problem:not([hidden])')")
    assert "name or" in page.text("#sign-in .problem") and page.js("document.activeElement.name") == "password"
    page.picture(REPORTS / "gallery-sign-in.png", whole=False)
    page.js("document.querySelector('#sign-in .quiet').click()")
    fill_sign_in(page, "carol", button="[value=join]")
    page.until("!document.querySelector('#sign-in').open")
    listed(page, "tiles === 200")
    assert page.text("#account") == "Sign out carol" and sign_up(stocked, "carol").status == 409
    page.reload()
    listed(page, "tiles === 200")
    assert page.text("#account") == "Sign out carol", "a reload keeps it"
    token = page.js("JSON.parse(sessionStorage['darkroom-token'])")
    urls = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
    assert len(urls) > 20 and not any(token in url for url in urls) and page.js("localStorage.length") == 0
    assert call(stocked, "PATCH", "/v1/users/me", {"password": PASSWORD + "!"}, token).status == 200  # the token is void
    page.js("document.querySelector('#filter').requestSubmit()")
    page.until("document.querySelector('#account').textContent === 'Sign in'")
    assert page.js("sessionStorage['darkroom-token']") == "null"
    fill_sign_in(page, "carol", PASSWORD + "!")
    listed(page, "tiles === 200")
    page.js("void (window.before = 1, document.querySelector('#account').click())")
    page.until("!window.before && document.querySelector('#account:not([hidden])')")
    assert page.text("#account") == "Sign in" and not page.js("sessionStorage['darkroom-token']?.length > 4")


def test_uploads_are_the_users(open_gallery, stocked, tmp_path):
    page = open_gallery("bob")
    page.js("document.querySelector('#view').click()")
    page.until("document.querySelector('#studio').checkVisibility()")
    (tmp_path / "mine.jpg").write_bytes(coloured_jpeg(50))
    page.choose(tmp_path / "mine.jpg")
    page.until("document.querySelector('#preview-facts').textContent && !document.body.classList.contains('busy')")
    page.js("document.querySelector('#store').click()")
    page.until("document.querySelector('.card .link:not([hidden])')")
    page.js("document.querySelector('#view').click()")
    page.until("document.querySelector('.tile .facts')?.textContent.endsWith(', bob')")
    assert page.js("document.querySelector('#studio').checkVisibility()") is False
    assert call(stocked, "DELETE", "/v1/images/" + ids(page)[0], token=token_of(stocked, "bob")).status == 204


def test_without_users_and_without_images(open_gallery, start, tmp_path):
    """USERS=off, IMAGES=off: nobody signs in, everybody may delete, and nothing has a dead link."""
    service = start(IMAGES="off")
    page = open_gallery(None, service)
    page.until("document.querySelector('#nothing:not([hidden])')")
    assert page.text("#nothing") == "No pictures are stored yet." and not page.js("document.querySelector('#account').checkVisibility()")
    (tmp_path / "a.jpg").write_bytes(coloured_jpeg(1))
    page.choose(tmp_path / "a.jpg")
    page.until("document.querySelector('#studio').checkVisibility()")
    page.js("document.querySelector('#store').click()")
    page.until("document.querySelector('.card .facts').textContent && !document.querySelector('.card .picture').hasAttribute('href')")
    assert not page.js("['.link', '.copy'].some(what => document.querySelector('.card ' + what).checkVisibility())")
    page.js("document.querySelector('#view').click()")
    page.until("document.querySelector('.tile .picture') && !document.querySelector('.tile .picture').hasAttribute('href')")
    assert not page.js("document.querySelector('#whose').checkVisibility()")
    first, = ids(page)
    delete(page, first)
    page.reload()  # is leaving it
    wait_for(lambda: service.get("/v1/images/" + first).status == 404, "the deletion")


def test_by_keyboard_alone(open_gallery):
    page = open_gallery()

    def tab_to(selector):
        for _ in range(40):
            page.key("Tab")
            if page.js(f"document.activeElement.matches({json.dumps(selector)})"):
                assert page.js("getComputedStyle(document.activeElement).outlineStyle !== 'none'"), "the focus is visible"
                return
        raise AssertionError(f"no way to {selector}")

    page.js("document.querySelector('#view').focus()")
    tab_to("#filter input")
    page.call("Input.insertText", text="golden retriever")
    page.key("Enter")
    page.until("[...document.querySelectorAll('.tile .label')].every(label => label.textContent === 'golden retriever')")
    page.js("document.querySelector('#filter').elements.text.value = ''")
    page.key("Enter")
    page.until("document.querySelector('.tile .label')?.textContent === 'teapot'")
    for selector in (".tile .picture", ".tile .label", ".tile .edit", ".tile .delete"):
        tab_to(selector)
    page.key("Enter")
    page.until("document.activeElement.className === 'undo'")
    page.key("Enter")
    page.until("document.activeElement.className === 'delete'")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = [(node["role"]["value"], node.get("name", {}).get("value")) for node in nodes if not node["ignored"] and any(
        p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", []))]
    assert {"button", "combobox", "link"} <= {role for role, _ in named}
    assert all(name for _, name in named), named


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_on_a_phone_and_in_the_dark(open_gallery, width, scheme):
    page = open_gallery(width=width, height=844, phone=width < 400, scheme=scheme)
    page.js("document.querySelector('.tile .edit').click()")
    delete(page, ids(page)[2])
    page.until("document.querySelector('.tile img').naturalWidth")
    page.picture(REPORTS / f"gallery-{scheme}-{width}.png", whole=False)
    assert page.js("document.documentElement.scrollWidth") <= width, "nothing to scroll sideways"
    columns = page.js("new Set([...document.querySelectorAll('.tile')].map(tile => tile.offsetLeft)).size")
    assert columns == (2 if width < 400 else 5)
    assert page.js(CONTRAST) == [] and page.js(SMALL) == []
    page.key("Enter")  # undo
    page.until("document.activeElement.className === 'delete'")
