// The page of preprocess_service. Chosen pictures wait in the tray, the options are tried on one of them by /transform,
// and "Store and label" sends them all to /preprocess. What is stored is a list of cards, kept until the tab is closed.
"use strict";

const AT_A_TIME = 3;                 // uploads
const PATIENCE_MS = 60000;           // for a label
const UNREACHABLE = "The service cannot be reached. Check that it runs, then try again.";
const $ = id => document.getElementById(id);
const form = $("options"), fields = form.elements;
const sleep = ms => new Promise(done => setTimeout(done, ms));
const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
};

const say = text => { $("status").textContent = text; };
const count = n => n === 1 ? "1 picture" : `${n} pictures`;
const size = bytes => bytes < 1000 ? `${bytes} bytes` : bytes < 1e6 ? `${Math.round(bytes / 1000)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;

// What a reply that is no success says, in its own words (RFC 9457).
function problem(status, text) {
    try {
        return JSON.parse(text).detail || `The service answered ${status}.`;
    } catch {
        return `The service answered ${status}.`;
    }
}

function showProblem(where, text) {
    where.hidden = !text;
    where.textContent = text;
}

// --- who asks (USERS=on) ---

// The token lives as long as the tab: a reload keeps it, and neither another tab nor the next visitor finds it.
const TOKEN = "darkroom-token";
let token = recall(TOKEN), me = null; // of {name, admin}

function recall(name) {
    try {
        return JSON.parse(sessionStorage.getItem(name));
    } catch {
        return null; // forbidden: a reload starts anew
    }
}

function keep(name, value) {
    try {
        sessionStorage.setItem(name, JSON.stringify(value));
    } catch { /* forbidden or full */ }
}

const bearer = () => token ? {Authorization: `Bearer ${token}`} : {};

async function call(path, options = {}) {
    const reply = await fetch(path, {...options, headers: {...options.headers, ...bearer()}});
    if (reply.status === 401 && token)
        signedIn(null); // it has expired
    return reply;
}

async function signedIn(given) {
    keep(TOKEN, token = given);
    const reply = await call("v1/users/me").catch(() => ({}));
    me = reply.ok ? await reply.json() : null;
    $("account").hidden = reply.status !== 401 && !me;
    $("account").textContent = me ? `Sign out ${me.name}` : "Sign in";
    document.dispatchEvent(new Event("account"));
}

$("account").addEventListener("click", async () => {
    if (!me)
        return await gallery() && $("sign-in").showModal();
    sessionStorage.clear();
    location.reload(); // nothing of theirs stays in memory
});

// --- the gallery, fetched when it is first asked for ---

let fetched = null;

const gallery = () => fetched ||= (async () => {
    try {
        const text = await (await fetch("page.gallery.html")).text();
        document.body.append(...new DOMParser().parseFromString(text, "text/html").body.children);
        document.querySelector("main").append($("gallery"));
        for (const [name, properties] of [["link", {rel: "stylesheet", href: "page.gallery.css"}], ["script", {src: "page.gallery.js"}]])
            await new Promise((onload, onerror) => document.head.append(element(name, {...properties, onload, onerror})));
        return true;
    } catch {
        document.querySelector("header p").textContent = UNREACHABLE;
        return fetched = null;
    }
})();

async function view() {
    const browsing = location.hash === "#gallery" && await gallery();
    document.body.classList.toggle("browsing", Boolean(browsing));
    $("view").textContent = browsing ? "Upload" : "Gallery";
    $("view").href = browsing ? "#" : "#gallery";
    document.dispatchEvent(new Event("view"));
}

addEventListener("hashchange", view);

// --- options ---

for (const [name, most] of [["median", 15], ["mean", 31]])
    for (let side = 3; side <= most; side += 2)
        fields[name].append(element("option", {value: side, textContent: `${side} x ${side}`}));

const initial = field => field.type === "select-one" ? [...field.options].find(o => o.defaultSelected).value : field.defaultValue;

const formatName = format => fields.format.querySelector(`[value=${CSS.escape(format)}]`)?.text || format;

// The options that differ from the service's defaults.
function query() {
    const asked = new URLSearchParams();
    for (const field of fields) {
        if (!field.name || field.disabled || field.value === "")
            continue;
        if (field.type === "checkbox" ? field.checked : field.value !== initial(field))
            asked.set(field.name, field.value.replace("#", ""));
    }
    return asked.toString();
}

function optionsChanged() {
    const kept = fields.fit.value === "none", sized = fields.width.value || fields.height.value;
    for (const side of [fields.width, fields.height]) {
        side.disabled = kept;
        side.placeholder = kept ? "as it is" : sized ? "auto" : "256";
    }
    fields.quality.disabled = fields.format.value === "png";
    fields.quality.placeholder = {jpeg: "94", png: "lossless"}[fields.format.value] || "90";
    previewSoon(250);
}

form.addEventListener("input", optionsChanged);
form.addEventListener("reset", () => setTimeout(optionsChanged)); // it comes before the fields change
$("quarter").addEventListener("click", () => {
    fields.rotate.value = (Number(fields.rotate.value) + 90) % 360;
    optionsChanged();
});

// --- the tray ---

let chosen = [], shown = null; // of {file, url}

function choose(files) {
    const added = [...files].map(file => ({file, url: URL.createObjectURL(file)}));
    if (added.length === 0)
        return;
    if (location.hash)
        location.hash = ""; // from the gallery
    chosen.push(...added);
    say(`${count(added.length)} chosen`);
    show(shown || added[0]);
}

function show(picture) {
    shown = picture;
    drawTray();
    previewSoon(0);
}

function remove(picture) {
    const at = chosen.indexOf(picture);
    chosen.splice(at, 1);
    URL.revokeObjectURL(picture.url);
    say(`${picture.file.name} removed`);
    show(shown === picture ? chosen[Math.min(at, chosen.length - 1)] || null : shown);
    (document.querySelectorAll("#tray .remove")[Math.min(at, chosen.length - 1)] || document.querySelector("#empty .choose")).focus();
}

function thumbnail(picture) {
    const {name} = picture.file, image = element("img", {src: picture.url, alt: "", decoding: "async"});
    image.onerror = () => image.replaceWith(name.split(".").pop().toUpperCase()); // e.g. HEIC, which few browsers show
    const button = element("button", {type: "button", className: "show", ariaLabel: `Preview ${name}`,
                                      ariaPressed: String(picture === shown), onclick: () => show(picture)}, image);
    return element("li", {}, button, element("button", {
        type: "button", className: "remove", textContent: "×", ariaLabel: `Remove ${name}`, onclick: () => remove(picture)}));
}

function drawTray() {
    const kept = document.activeElement?.ariaLabel, some = chosen.length > 0;
    const more = element("button", {type: "button", className: "choose", textContent: "Add", ariaLabel: "Add pictures", onclick: pick});
    $("tray").replaceChildren(...chosen.map(thumbnail), element("li", {}, more));
    [...$("tray").querySelectorAll("button")].find(button => button.ariaLabel === kept)?.focus();
    $("empty").hidden = some;
    $("tray").hidden = $("preview").hidden = $("store").disabled = !some;
    $("store").textContent = chosen.length > 1 ? `Store and label ${count(chosen.length)}` : "Store and label";
}

const pick = () => $("files").click();
document.querySelector("#empty .choose").addEventListener("click", pick);
$("files").addEventListener("change", () => {
    choose($("files").files);
    $("files").value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", event => choose(event.clipboardData.files));

const hasFiles = event => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", event => {
    if (!hasFiles(event))
        return;
    event.preventDefault();
    document.body.classList.add("dropping");
});
document.addEventListener("dragleave", event => event.relatedTarget || document.body.classList.remove("dropping"));
document.addEventListener("drop", event => {
    document.body.classList.remove("dropping");
    if (!hasFiles(event))
        return;
    event.preventDefault();
    choose(event.dataTransfer.files);
});

// --- the preview ---

let preview = null, previewTimer; // what is asked for now

function previewSoon(ms) {
    preview?.abort();
    clearTimeout(previewTimer);
    document.body.classList.toggle("busy", Boolean(shown));
    if (shown)
        previewTimer = setTimeout(askPreview, ms, shown);
}

function upload(file) {
    const body = new FormData();
    body.append("file", file, file.name);
    return body;
}

async function askPreview(picture) {
    const asked = preview = new AbortController(), current = () => preview === asked && !asked.signal.aborted;
    let wrong = "";
    $("preview-name").textContent = picture.file.name;
    try {
        const reply = await call("transform?" + query(), {method: "POST", body: upload(picture.file), signal: asked.signal});
        if (reply.ok)
            await drawPreview(picture, reply, current);
        else
            wrong = problem(reply.status, await reply.text());
        if (reply.status === 503 && current())
            previewSoon(1000 * (reply.headers.get("Retry-After") || 1));
    } catch {
        wrong = UNREACHABLE;
    }
    if (!current())
        return;
    document.body.classList.remove("busy");
    showProblem($("preview-problem"), wrong);
    if (wrong) {
        $("preview-picture").hidden = true;
        $("preview-facts").textContent = "";
        $("preview-stages").replaceChildren();
    }
    const name = wrong.match(/^(\w+)[:,]/)?.[1]; // details about an option begin with its name
    for (const field of fields)
        field.ariaInvalid = field.name && field.name === name ? "true" : null;
}

async function drawPreview(picture, reply, current) {
    const blob = await reply.blob(), image = $("preview-picture"), url = URL.createObjectURL(blob);
    if (!current())
        return;
    URL.revokeObjectURL(image.src);
    image.src = url;
    image.alt = `${picture.file.name} with these options`;
    await image.decode().catch(() => {}); // a browser may not know the format; the facts hold
    if (!current())
        return;
    image.hidden = false;
    const format = formatName(blob.type.replace("image/", ""));
    $("preview-facts").textContent = `${image.naturalWidth} × ${image.naturalHeight}, ${format}, ${size(blob.size)}; was ${size(picture.file.size)}`;
    drawStages($("preview-stages"), reply.headers.get("Server-Timing"));
}

// Server-Timing, "receive;dur=0.4, decode;dur=3.1", as one bar and its legend.
function drawStages(where, timing) {
    const stages = [...(timing || "").matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, ms]) => ({name, ms: Number(ms)})).filter(s => s.ms > 0);
    const line = element("div", {className: "line", ariaHidden: "true"});
    for (const {name, ms} of stages) {
        const part = element("i", {className: name});
        part.style.flexGrow = ms;
        line.append(part);
    }
    const legend = stages.map(({name, ms}) => element("li", {className: name, textContent: `${name} ${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`}));
    where.replaceChildren(...(stages.length ? [line, element("ul", {ariaLabel: "Time of each stage"}, ...legend)] : []));
}

// --- uploads ---

// Of {name, state, file, query, sent, problem, url, reply, timing, result, card}; the newest first.
// state: waiting, sending, labelling, done, failed
let items = [], sending = 0;

form.addEventListener("submit", event => {
    event.preventDefault();
    const asked = query(), added = chosen.map(({file, url}) => ({name: file.name, state: "waiting", file, url, query: asked}));
    items = [...added, ...items];
    chosen = [];
    show(null);
    $("cards").prepend(...added.map(makeCard));
    added.forEach(draw);
    save();
    say(`Storing ${count(added.length)}`);
    $("results-title").focus();
    sendNext();
});

function sendNext() {
    while (sending < AT_A_TIME) {
        const item = items.find(i => i.state === "waiting");
        if (!item)
            return;
        sending++;
        send(item).finally(() => {
            sending--;
            sendNext();
        });
    }
}

// By XMLHttpRequest, since fetch does not tell how much was sent.
function post(item) {
    return new Promise((done, fail) => {
        const request = new XMLHttpRequest();
        request.upload.onprogress = event => draw(Object.assign(item, {sent: event.loaded / event.total}));
        request.onload = () => done(request);
        request.onerror = () => fail(new Error(UNREACHABLE));
        request.open("POST", "preprocess?" + item.query);
        for (const [name, value] of Object.entries(bearer()))
            request.setRequestHeader(name, value);
        request.send(upload(item.file));
    });
}

async function send(item) {
    Object.assign(item, {state: "sending", sent: 0, problem: ""});
    draw(item);
    try {
        let reply = await post(item);
        for (let times = 0; reply.status === 503 && times < 10; times++) {
            await sleep(1000 * (reply.getResponseHeader("Retry-After") || 1));
            reply = await post(item);
        }
        if (reply.status !== 200) {
            item.refused = reply.status < 500 && reply.status !== 401; // the same again would be, too
            if (reply.status === 401)
                signedIn(null);
            throw new Error(problem(reply.status, reply.responseText));
        }
        Object.assign(item, {state: "labelling", reply: JSON.parse(reply.responseText), timing: reply.getResponseHeader("Server-Timing")});
        label(item);
    } catch (error) {
        Object.assign(item, {state: "failed", problem: error.message});
    }
    save();
    draw(item);
}

// The classifier gets the picture by push; its result appears in the store.
async function label(item) {
    const until = Date.now() + PATIENCE_MS;
    Object.assign(item, {state: "labelling", problem: "No label after a minute. Check that the classifier runs, then try again."});
    draw(item);
    for (let pause = 150; Date.now() < until && items.includes(item); pause = Math.min(pause * 1.4, 3000)) {
        await sleep(pause);
        try {
            const reply = await call("results/" + item.reply.id, {cache: "no-store"});
            if (reply.status === 202 || reply.status === 503)
                continue;
            const text = await reply.text();
            item.refused = reply.status < 500;
            item.problem = reply.ok ? JSON.parse(text).detail || "" : problem(reply.status, text); // a rejection has details
            item.result = item.problem ? null : JSON.parse(text);
            break;
        } catch {
            item.problem = UNREACHABLE;
            pause = 3000;
        }
    }
    item.state = item.problem ? "failed" : "done";
    if (item.result)
        say(`${item.name}: ${item.result.label}, ${share(item.result)}`);
    save();
    draw(item);
}

// --- cards ---

const share = ({confidence}) => `${(100 * confidence).toFixed(1)} %`;
const extension = format => format === "jpeg" ? "jpg" : format;

function makeCard(item) {
    const card = item.card = $("card").content.firstElementChild.cloneNode(true);
    const find = selector => card.querySelector(selector), picture = find("img");
    find("h3").textContent = find("h3").title = item.name;
    find("progress").ariaLabel = `Upload of ${item.name}`;
    find(".copy").addEventListener("click", () => copy(find(".link"), find(".copy")));
    find(".again").addEventListener("click", () => {
        find(".link").hidden ? $("results-title").focus() : find(".link").focus(); // the button goes
        if (item.reply)
            label(item);
        else
            item.state = "waiting";
        sendNext();
    });
    picture.onload = () => { picture.hidden = false; };
    picture.onerror = async () => {
        if (await missing(picture))
            find(".link").hidden = find(".copy").hidden = true;
    };
    if (item.url)
        picture.src = item.url;
    return card;
}

// What cannot be shown has a format that this browser does not know, or no address either (IMAGES=off): then no link.
async function missing(picture) {
    const link = picture.parentElement;
    picture.hidden = true;
    const gone = link.href && (await call(link.href, {method: "HEAD"}).catch(() => ({}))).status === 404;
    if (gone)
        link.removeAttribute("href");
    return gone;
}

// A sealed picture is its owner's: an address alone would not show it.
async function showSealed(picture) {
    try {
        const reply = await call(picture.parentElement.href, {cache: "no-store"});
        if (!reply.ok)
            throw new Error();
        picture.src = picture.parentElement.href = URL.createObjectURL(await reply.blob());
    } catch {
        picture.hidden = true;
        picture.parentElement.removeAttribute("href");
    }
}

function draw(item) {
    const find = selector => item.card.querySelector(selector), {state, reply} = item;
    const under = {waiting: "Waiting", sending: item.sent < 1 ? `${Math.round(100 * item.sent)} %` : "Developing", labelling: "Labelling"}[state];
    find(".sending").hidden = !under;
    find(".sending span").textContent = under;
    if (state === "sending" && item.sent < 1 || state === "waiting")
        find("progress").value = item.sent || 0;
    else
        find("progress").removeAttribute("value"); // goes on, nobody knows how far
    showProblem(find(".problem"), state === "failed" ? item.problem : "");
    find(".again").hidden = state !== "failed" || Boolean(item.refused);
    if (reply && !find(".facts").textContent)
        drawStored(item, find);
    if (item.result)
        drawBars(item, find);
}

function drawStored(item, find) {
    const {reply} = item, link = new URL(`images/${reply.id}.${extension(reply.format)}`, document.baseURI).href;
    find(".facts").textContent = `${reply.width} × ${reply.height}, ${formatName(reply.format)}, ${size(reply.bytes)}`;
    const sealed = reply.gcs_path?.includes("/sealed/");
    find(".link").value = find(".picture").href = link;
    find(".picture").ariaLabel = `Open ${item.name}`;
    find(".link").hidden = find(".copy").hidden = sealed;
    if (sealed)
        showSealed(find("img"));
    else
        find("img").src = link;
    drawStages(find(".stages"), item.timing);
    if (item.url)
        URL.revokeObjectURL(item.url);
    item.url = item.file = null; // its memory
}

function drawBars(item, find) {
    find("img").alt = `${item.name}: ${item.result.label}`;
    find(".bars").ariaLabel = "Labels";
    find(".bars").replaceChildren(...item.result.top.slice(0, 5).map(guess => {
        const bar = element("i", {ariaHidden: "true"});
        bar.style.width = share(guess).replace(" ", "");
        return element("li", {}, bar, element("span", {textContent: guess.label}), element("span", {textContent: share(guess)}));
    }));
}

async function copy(link, button) {
    link.select();
    try {
        await navigator.clipboard.writeText(link.value);
    } catch {
        document.execCommand("copy"); // over plain HTTP there is no clipboard object
    }
    button.textContent = "Copied";
    say("Link copied");
    await sleep(2000);
    button.textContent = "Copy link";
}

// --- what a reload leaves ---

const KEPT = "darkroom";

function save() {
    const kept = items.filter(item => item.reply).slice(0, 200);
    $("results").hidden = items.length === 0;
    keep(KEPT, kept.map(({name, reply, timing, result}) => ({name, reply, timing, result})));
}

function restore() {
    items = recall(KEPT) || [];
    $("cards").append(...items.map(makeCard));
    for (const item of items) {
        if (item.result)
            draw(Object.assign(item, {state: "done"}));
        else
            label(item);
    }
    save();
}

$("clear").addEventListener("click", () => {
    items = items.filter(item => item.state === "waiting" || item.state === "sending"); // what is under way stays
    $("cards").replaceChildren(...items.map(item => item.card));
    save();
    say("The list is empty");
    document.querySelector("#empty .choose").focus();
});

signedIn(token);
restore();
optionsChanged();
view();
