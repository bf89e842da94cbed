// The gallery of the page: what the catalogue lists, its tags, deletion; and signing in. page.js fetches it.
"use strict";
{
const PAGE = 200;     // pictures asked for at a time
const UNDO_MS = 10000; // until what was deleted is deleted
const tiles = $("tiles"), filter = $("filter").elements, more = $("more"), known = new Set();
const going = new Map(); // id -> how to delete it now

// --- the list ---

let next = null, asked = null; // the next page's cursor, null: none; the request under way

// Show it from the beginning.
function list() {
    asked?.abort();
    for (const picture of tiles.querySelectorAll("img[src^=blob]"))
        URL.revokeObjectURL(picture.src);
    near.disconnect();
    tiles.replaceChildren();
    next = "";
    return listMore();
}

function question() {
    const options = new URLSearchParams({limit: PAGE}), text = filter.text.value.trim();
    if (text)
        options.set(filter.by.value, text);
    if (me && filter.owner.value)
        options.set("owner", filter.owner.value);
    if (next)
        options.set("before", next);
    return options;
}

async function listMore() {
    const mine = asked = new AbortController();
    let wrong = "", page = null;
    try {
        const reply = await call("v1/images?" + question(), {signal: mine.signal, cache: "no-store"}), text = await reply.text();
        if (reply.ok)
            page = JSON.parse(text);
        else
            wrong = problem(reply.status, text);
    } catch {
        wrong = UNREACHABLE;
    }
    if (mine !== asked || mine.signal.aborted)
        return;
    asked = null;
    if (page) {
        next = page.next;
        tiles.append(...page.images.map(makeTile));
    }
    showProblem($("gallery-problem"), wrong);
    more.hidden = !wrong && next === null;
    more.textContent = wrong ? "Try again" : "More";
    $("nothing").hidden = wrong || tiles.children.length > 0;
    $("nothing").textContent = filter.text.value.trim() ? "No picture has exactly this." : "No pictures are stored yet.";
    say(wrong || `${count(tiles.children.length)}${next === null ? "" : ", and more below"}`);
    if (page) { // seen anew, so that a tall window fills
        end.unobserve(more);
        end.observe(more);
    }
}

// Of a busy browser several looks come together; the last one counts.
const end = new IntersectionObserver(looks => {
    if (looks.at(-1).isIntersecting && !asked && next && $("gallery-problem").hidden)
        listMore();
}, {rootMargin: "1200px"});

more.addEventListener("click", () => asked || listMore());
$("filter").addEventListener("submit", event => {
    event.preventDefault();
    list();
});
filter.owner.addEventListener("change", list);
filter.by.addEventListener("change", list);
filter.text.addEventListener("input", event => { // emptied, or chosen from what is known
    if (!filter.text.value || event.inputType === "insertReplacementText")
        list();
});

function search(by, text) {
    filter.by.value = by;
    filter.text.value = text;
    list();
    filter.text.focus();
    scrollTo(0, 0);
}

// --- a picture ---

const mayChange = image => $("account").hidden || me && (me.admin || me.name === image.owner);
const given = image => image.tags.filter(({confidence}) => confidence === null).map(({tag}) => tag);

function makeTile(image) {
    const tile = $("tile").content.firstElementChild.cloneNode(true), find = selector => tile.querySelector(selector);
    const picture = find("img"), form = find("form");
    tile.dataset.id = image.id;
    tile.sealed = image.sealed;
    find(".picture").href = `images/${image.id}.${extension(image.format)}`;
    picture.onerror = () => missing(picture);
    near.observe(tile);
    form.remove(); // until it is asked for: Chromium looks through all forms for passwords, for seconds if there are thousands
    find(".edit").addEventListener("click", () => {
        if (form.isConnected)
            form.remove();
        else
            find(".words").after(form);
        form.elements.tags.value = given(image).join(", ");
        (form.isConnected ? form.elements.tags : find(".edit")).focus();
    });
    form.addEventListener("keydown", event => event.key === "Escape" && find(".edit").click());
    form.addEventListener("submit", event => {
        event.preventDefault();
        saveTags(tile, image);
    });
    find(".delete").addEventListener("click", () => discard(tile, image));
    find(".undo").addEventListener("click", () => {
        clearTimeout(going.get(image.id)?.timer);
        going.delete(image.id);
        draw(tile, image);
        find(".delete").focus();
        say("It stays");
    });
    draw(tile, image);
    return tile;
}

// Pictures are fetched when they come near. "lazy" ones would be, too, without the token that sealed ones need.
const near = new IntersectionObserver(entries => {
    for (const {isIntersecting, target} of entries) {
        if (!isIntersecting)
            continue;
        const picture = target.querySelector("img");
        near.unobserve(target);
        if (target.sealed)
            showSealed(picture);
        else
            picture.src = picture.parentElement.href;
    }
}, {rootMargin: "600px"});

function draw(tile, image) {
    const find = selector => tile.querySelector(selector), name = image.label || "a picture without a label", own = mayChange(image);
    const word = (by, text, className) => element("button", {
        type: "button", textContent: text, className, title: `Search for ${text}`, onclick: () => search(by, text)});
    find(".facts").textContent = `${image.width} × ${image.height}, ${formatName(image.format)}, ${size(image.bytes)}`
        + (image.owner ? `, ${image.owner}` : "") + (image.sealed ? ", sealed" : "");
    find("img").alt = name;
    find(".picture").ariaLabel = `Open ${name}`;
    find(".edit").ariaLabel = `Tags of ${name}`;
    find(".delete").ariaLabel = `Delete ${name}`;
    find(".undo").ariaLabel = `Undo: keep ${name}`;
    find(".actions").hidden = !own;
    tile.classList.toggle("going", going.has(image.id));
    find(".words").replaceChildren(...(image.label ? [word("label", image.label, "label")] : []),
                                   ...given(image).map(tag => word("tag", tag, "tag")));
    for (const text of [image.label, ...given(image)])
        if (text && !known.has(text) && known.add(text).size <= 500)
            $("known").append(element("option", {value: text}));
}

async function change(image, options) {
    try {
        const reply = await call(`v1/images/${image.id}`, options), text = await reply.text();
        return reply.ok || options.method === "DELETE" && reply.status === 404 ? {text} : {wrong: problem(reply.status, text)};
    } catch {
        return {wrong: UNREACHABLE};
    }
}

async function saveTags(tile, image) {
    const form = tile.querySelector("form"), tags = form.elements.tags.value.split(",").map(tag => tag.trim()).filter(Boolean);
    const {text, wrong} = await change(image, {
        method: "PATCH", headers: {"Content-Type": "application/json"}, body: JSON.stringify({tags: [...new Set(tags)]})});
    showProblem(tile.querySelector(".problem"), wrong);
    if (wrong)
        return;
    Object.assign(image, JSON.parse(text));
    draw(tile, image);
    form.remove();
    tile.querySelector(".edit").focus();
    say("Tags saved");
}

// The service is told when the time for an undo is over, or when the page is left.
function discard(tile, image) {
    const remove = async () => {
        clearTimeout(going.get(image.id)?.timer);
        const {wrong} = await change(image, {method: "DELETE", keepalive: true});
        going.delete(image.id);
        for (const shown of tiles.querySelectorAll(`[data-id="${image.id}"]`)) {
            if (wrong) {
                draw(shown, image);
                showProblem(shown.querySelector(".problem"), wrong);
                continue;
            }
            if (shown.contains(document.activeElement))
                (shown.nextElementSibling || shown.previousElementSibling)?.querySelector("a, button")?.focus();
            shown.remove();
        }
    };
    going.set(image.id, {remove, timer: setTimeout(remove, UNDO_MS)});
    draw(tile, image);
    tile.querySelector(".undo").focus();
    say("Deleted. There are ten seconds to undo it.");
}

addEventListener("pagehide", () => {
    for (const {remove} of going.values())
        remove();
});

// --- who asks ---

const dialog = $("sign-in"), account = dialog.firstElementChild;

account.addEventListener("submit", async event => {
    event.preventDefault();
    const credentials = {name: account.elements.name.value.trim(), password: account.elements.password.value};
    const post = path => fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(credentials)});
    let wrong = "";
    try {
        let reply = event.submitter?.value === "join" ? await post("v1/users") : null;
        if (!reply || reply.ok)
            reply = await post("v1/tokens");
        const text = await reply.text();
        if (reply.ok)
            await signedIn(JSON.parse(text).token);
        else
            wrong = problem(reply.status, text);
    } catch {
        wrong = UNREACHABLE;
    }
    showProblem(account.querySelector(".problem"), wrong);
    account.elements.password.value = "";
    if (wrong)
        return account.elements.password.focus();
    dialog.close();
    say(`Signed in as ${me?.name}`);
});
account.querySelector(".quiet").addEventListener("click", () => dialog.close());

function begin() {
    $("whose").hidden = !me;
    if (document.body.classList.contains("browsing"))
        list();
}

document.addEventListener("view", begin);
document.addEventListener("account", () => {
    if (shown)
        show(shown); // its preview may have been refused
    begin();
});
}
