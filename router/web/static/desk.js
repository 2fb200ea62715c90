// The desk's own script: live updates without stealing focus, shortcuts, drafts. Every page works without it.

const byId = (id) => document.getElementById(id);
const stored = (store, key) => { try { return store.getItem(key); } catch { return null; } };
const store = (where, key, value) => {
  try { value === null ? where.removeItem(key) : where.setItem(key, value); } catch { /* storage is off */ }
};
const clock = (date = new Date()) => date.toLocaleTimeString("nb-NO", { hour: "2-digit", minute: "2-digit" });
const counted = (element, n) => (n === 1 ? element.dataset.one : element.dataset.many.replace("{n}", n));

const live = byId("live");
const inquiry = byId("inquiry");
const linkState = byId("link-state");

// --- Saying things to those who listen: one polite region, at most once in a while. What was said before stays
// until the next turn, and nothing is lost: only what is told anew `about` the same matter takes the older's place. ---

const unsaid = new Map();
let spoken = new Map();
let speaking = false;
function say(text, about = text) {
  unsaid.set(about, text);
  if (!speaking) { speaking = true; setTimeout(speak, 600); }
}
function speak() {
  if (!unsaid.size) { speaking = false; return; }
  spoken = new Map(unsaid);
  unsaid.clear();
  showSpoken();
  setTimeout(speak, 2000);
}
function showSpoken() {
  byId("said").textContent = [...spoken.values()].join(". ").replace(/([.!?])\. /g, "$1 ");
}
/** What is not so any more is found by nobody who reads the page through. */
function unsay(about) {
  unsaid.delete(about);
  if (spoken.delete(about)) showSpoken();
}
document.addEventListener("said", (event) => say(decodeURIComponent(event.detail.value)));

// --- Fetching. A page that asks to sign in is not content. ---

let freshAt = new Date();
let signedOut = false;
let streamUp = true;
let fetchUp = true;

async function fetchPage(address, options = {}) {
  try {
    const response = await fetch(address, { headers: { Accept: "text/html" }, ...options });
    signedOut = response.status === 401 || response.redirected;
    fetchUp = response.ok && !signedOut;
    if (!fetchUp) throw new Error(`status ${response.status}`);
    const html = await response.text();
    freshAt = new Date();
    return html;
  } catch (error) {
    fetchUp = false;
    throw error;
  } finally {
    showLink();
  }
}

function showLink() {
  if (!linkState) return;
  const connected = streamUp && fetchUp;
  linkState.classList.toggle("lost", signedOut || !connected);
  const words = signedOut ? linkState.dataset.signedOut
    : connected ? linkState.dataset.live
    : linkState.dataset.lost.replace("{time}", clock(freshAt));
  if (linkState.textContent === words) return;
  linkState.textContent = words;
  if (signedOut || !connected) say(words, "link");
}

async function replaceInside(target, html) {
  if (window.htmx) {
    await window.htmx.swap({ text: html, target, swap: "innerMorph", sourceElement: target });
  } else {
    target.innerHTML = html;
  }
}

// --- The live stream: one per browser. HTTP/1.1 has six connections to a host, and tabs share them. ---

// --- Calls: on every page, brought up to date without taking what is being typed. ---

const callBoard = byId("calls");
const waitingCalls = () => callBoard.querySelectorAll("[data-waiting]").length;
const plainTitle = document.title;

async function refreshCalls() {
  const before = waitingCalls();
  const html = await fetchPage("/desk/calls");
  const typed = byId("call-to")?.value;
  // What went wrong stays until something else is tried, or the calls are over.
  const problem = html.includes("<section") ? byId("call-problem")?.outerHTML ?? "" : "";
  await replaceInside(callBoard, problem + html);
  if (typed && byId("call-to")) byId("call-to").value = typed;
  showWaiting(before);
}

/** Those who look at another tab see it in the title; those who listen are told. */
function showWaiting(before) {
  const now = waitingCalls();
  showTitle();
  if (now < before) unsay("calls");
  if (now > before) say(now === 1 ? callBoard.dataset.one : callBoard.dataset.many.replace("{n}", now), "calls");
}

/** What was pressed may be gone: who pressed it goes on where the call stands, or at the page; who has gone elsewhere stays there. */
let pressedIn = "";
callBoard?.addEventListener("submit", (event) => {
  pressedIn = callBoard.contains(document.activeElement) ? event.target.closest(".call").id : "";
});
document.addEventListener("focusin", (event) => { if (!callBoard?.contains(event.target)) pressedIn = ""; });
document.addEventListener("htmx:after:swap", () => {
  if (!pressedIn) return;
  if (byId("call-problem") && callBoard.contains(document.activeElement)) byId("call-to")?.select();
  else if (document.activeElement === document.body) (callBoard.querySelector(`#${pressedIn} :is(button, a)`) ?? byId("main")).focus();
});

function showTitle() {
  const load = chatLoad();
  const now = (callBoard ? waitingCalls() : 0) + load.waiting + load.unread;
  document.title = now ? `(${now}) ${plainTitle}` : plainTitle;
}

// --- Chats: who waits and what is unread, on every page; on their own page the lists of talks. ---

const chatBoard = byId("chats");

function chatLoad() {
  const { waiting = 0, unread = 0, lost = 0 } = chatBoard?.querySelector(".chat-load")?.dataset ?? {};
  // What comes into the talk that is looked at is read as it comes.
  const read = !document.hidden && chatBoard?.querySelector(".talk-line.unread[aria-current]") ? 1 : 0;
  return { waiting: Number(waiting), unread: unread - read, lost: Number(lost) };
}

async function refreshChats() {
  const before = chatLoad();
  await replaceInside(chatBoard, await fetchPage(chatBoard.dataset.address));
  showChats(before);
}

function showChats(before) {
  const now = chatLoad();
  const sum = now.waiting + now.unread;
  byId("chat-count").hidden = !sum;
  byId("chat-number").textContent = sum;
  showTitle();
  const words = chatBoard.dataset;
  if (now.waiting < before.waiting) unsay("chat line");
  if (now.unread < before.unread) unsay("chat unread");
  if (now.lost < before.lost) unsay("chat lost");
  if (now.waiting > before.waiting) say(now.waiting === 1 ? words.one : words.many.replace("{n}", now.waiting), "chat line");
  if (now.unread > before.unread) say(words.unread, "chat unread");
  if (now.lost > before.lost) say(words.lost, "chat lost");
}

function moveInTalks(step) {
  const links = [...document.querySelectorAll(".talk-list .talk-line")];
  if (!links.length) return;
  const at = links.findIndex((link) => link.hasAttribute("aria-current"));
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : (at + step + links.length) % links.length;
  links[next].click();
}

function openTalk(number) {
  document.querySelectorAll("#chats [id^=talk-] .talk-line")[number - 1]?.click();
}

// --- Ready texts: chosen by their first letters, put in at the cursor. ---

function setUpCanned(part) {
  const field = byId(part.dataset.canned);
  const select = part.querySelector("select");
  const preview = part.querySelector(".hint");
  const put = () => {
    if (!select.value) { select.focus(); return; }
    if (field.readOnly) { field.focus(); return; }
    const before = field.value.slice(0, field.selectionStart);
    const gap = before && !/\s$/.test(before) ? " " : "";
    field.setRangeText(gap + select.value, field.selectionStart, field.selectionEnd, "end");
    select.value = "";
    preview.textContent = "";
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.focus();
  };
  part.hidden = false;
  select.addEventListener("change", () => { preview.textContent = select.value; });
  select.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !select.value) return;
    event.preventDefault();
    put();
  });
  part.querySelector("button").addEventListener("click", put);
}
document.querySelectorAll("[data-canned]").forEach(setUpCanned);

function useCallKey(name) {
  const element = callBoard?.querySelector(`[data-call-key="${name}"]`);
  if (!element) return false;
  if (element.matches("button")) element.click();
  else element.focus();
  return true;
}

function openStream(onEvent, onLink) {
  let last = "";
  let source;
  let retry;
  const open = () => {
    source = new EventSource(`/desk/stream${last ? `?after=${last}` : ""}`);
    const take = (event) => { last = event.lastEventId || last; onEvent(event.type, event.data); };
    source.addEventListener("change", take);
    source.addEventListener("presence", take);
    source.addEventListener("reload", take);
    source.onopen = () => onLink(true);
    source.onerror = () => {
      onLink(false);
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(retry);
        retry = setTimeout(open, 5000);
      }
    };
  };
  open();
}

function followStream(onEvent, onLink) {
  if (!navigator.locks || !window.BroadcastChannel) return openStream(onEvent, onLink);
  const wire = new BroadcastChannel("sentralbord-desk");
  wire.onmessage = ({ data }) => ("up" in data ? onLink(data.up, data.anew) : onEvent(data.type, data.text));
  // Whoever holds the lock reads the stream for all tabs; when it closes, the next one takes over.
  const others = setTimeout(() => onLink(true), 500);
  return navigator.locks.request("sentralbord-stream", () => new Promise(() => {
    clearTimeout(others);
    // What happened between the old stream and this one reached no tab.
    let anew = true;
    openStream(
      (type, text) => { onEvent(type, text); wire.postMessage({ type, text }); },
      (up) => { onLink(up, anew); wire.postMessage({ up, anew }); anew &&= !up; },
    );
  }));
}

/** Run at most once per pause, soon after the first call, and never twice at a time. */
function gathered(action, pause = 150) {
  let timer = 0;
  let running = false;
  let again = false;
  const run = async () => {
    timer = 0;
    if (running) { again = true; return; }
    running = true;
    try { await action(); } catch { /* shown by the state of the link */ }
    running = false;
    if (again) { again = false; soon(); }
  };
  const soon = () => { timer ||= setTimeout(run, pause); };
  return soon;
}

// --- The queue. ---

let frozen = false;
const newest = { html: "", count: 0 };

const rowsIn = (root) => [...root.querySelectorAll("#rows > tr")];
const heldByReader = () => frozen || byId("rows")?.contains(document.activeElement) || rowsIn(live).length > 200;

async function refreshQueue() {
  const shown = rowsIn(live);
  const address = new URL(live.dataset.rows, location.origin);
  address.searchParams.set("limit", Math.max(50, Math.min(200, shown.length)));
  const html = await fetchPage(address);
  const template = document.createElement("template");
  template.innerHTML = html;
  const known = new Set(shown.map((row) => row.id));
  const fresh = rowsIn(template.content);
  const news = fresh.filter((row) => !known.has(row.id)).length;
  if (!heldByReader()) {
    await replaceInside(live, html);
    hideNews();
    if (news) say(counted(live, news), "news");
    return;
  }
  if (!frozen) patchRows(shown, fresh);
  newest.html = html;
  if (news !== newest.count && news) say(counted(live, news), "news");
  newest.count = news;
  const button = byId("news");
  button.hidden = !news;
  button.textContent = news ? counted(button, news) : "";
}

/** Bring rows up to date where they stand: nothing moves, nothing vanishes under the reader. */
function patchRows(shown, fresh) {
  const byRef = new Map(fresh.map((row) => [row.id, row]));
  for (const row of shown) {
    const now = byRef.get(row.id);
    row.classList.toggle("gone", !now);
    if (!now) continue;
    if (row.className !== now.className) row.className = now.className;
    [...row.cells].forEach((cell, i) => {
      if (now.cells[i] && !cell.contains(document.activeElement) && cell.innerHTML !== now.cells[i].innerHTML) {
        cell.innerHTML = now.cells[i].innerHTML;
        window.htmx?.process(cell);
      }
    });
  }
}

function hideNews() {
  newest.count = 0;
  newest.html = "";
  const button = byId("news");
  if (document.activeElement === button) byId("main").focus();
  button.hidden = true;
}

async function showNews() {
  if (!newest.html) return;
  const html = newest.html;
  await replaceInside(live, html);
  hideNews();
  rowsIn(live)[0]?.querySelector("a.open")?.focus();
}

function setUpQueue() {
  const soon = gathered(refreshQueue);
  byId("news").addEventListener("click", showNews);
  const freeze = byId("freeze");
  freeze.hidden = false;
  freeze.addEventListener("click", () => {
    frozen = !frozen;
    freeze.setAttribute("aria-pressed", frozen);
    say(frozen ? live.dataset.frozen : live.dataset.thawed, "freeze");
    if (!frozen) soon();
  });
  // When focus leaves the list, what was held back may come in.
  live.addEventListener("focusout", () => setTimeout(() => { if (newest.html && !heldByReader()) soon(); }, 0));
  document.addEventListener("htmx:after:swap", (event) => {
    const row = event.target.closest?.("tr.row") ?? event.detail?.ctx?.target?.closest?.("tr.row");
    // The button that was pressed is gone; the reader stays on its row.
    if (row?.isConnected && document.activeElement === document.body) row.querySelector("a.open")?.focus();
  });
  const address = new URL(location.href);
  const kept = stored(sessionStorage, "queue");
  const done = address.searchParams.get("done");
  if (done && kept && !["department", "assignee", "channel", "status", "q"].some((f) => address.searchParams.has(f))) {
    const before = new URL(kept, location.origin);
    for (const name of ["done", "ref"]) {
      if (address.searchParams.has(name)) before.searchParams.set(name, address.searchParams.get(name));
    }
    if (before.search !== address.search) { location.replace(before); return soon; }
  }
  for (const name of ["done", "ref", "after"]) address.searchParams.delete(name);
  store(sessionStorage, "queue", address.pathname + address.search);
  return soon;
}

// --- One inquiry. ---

async function refreshInquiry() {
  const html = await fetchPage(`/desk/inquiries/${inquiry.dataset.ref}/live`);
  const page = new DOMParser().parseFromString(html, "text/html");
  const parts = inquiry.dataset.revealed ? ["head", "held", "holder"] : ["head", "thread", "held", "holder", "why", "history"];
  let changed = false;
  for (const id of parts) {
    const now = page.getElementById(id);
    const old = byId(id);
    if (!now || !old || withoutToken(old) === withoutToken(now)) continue;
    if (old.contains(document.activeElement) && id !== "thread") continue;
    changed = true;
    await replaceInside(old, now.innerHTML);
  }
  inquiry.dataset.held = page.getElementById("inquiry")?.dataset.held ?? "";
  for (const one of document.querySelectorAll("[data-needs-hold]")) {
    // What stands in a field is still read, and copied into a note.
    one[one.matches("textarea") ? "readOnly" : "disabled"] = Boolean(inquiry.dataset.held);
  }
  if (changed) say(inquiry.dataset.news);
}

const withoutToken = (element) => element.innerHTML
  .replace(/name="csrf" value="[^"]*"/g, "")
  .replace(/ (open|data-htmx-powered)="[^"]*"/g, "");

function setUpInquiry() {
  const kept = stored(sessionStorage, "queue");
  if (kept) byId("back").href = kept;
  const done = document.querySelector("[data-done]")?.dataset.done;
  for (const area of document.querySelectorAll("[data-draft]")) {
    const key = `draft:${inquiry.dataset.ref}:${area.id}`;
    if ((area.id === "reply-text" && done === "replied") || (area.id === "note-text" && done === "noted")) {
      store(sessionStorage, key, null);
    }
    const draft = stored(sessionStorage, key);
    if (draft && !area.value) {
      area.value = draft;
      say(inquiry.dataset.draftRestored);
    }
    area.addEventListener("input", () => store(sessionStorage, key, area.value || null));
  }
  setUpFiles();
  setUpParts();
  byId("problem")?.focus();
  byId("transfer-department")?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey || event.isComposing) return;
    event.preventDefault();
    chooseDepartment(event.target);
  });
  return gathered(refreshInquiry);
}

/** Enter after a department's first letters chooses it and goes on to the note; it sends nothing. */
function chooseDepartment(field) {
  const text = field.value.trim();
  const wanted = text.toLocaleLowerCase("nb");
  const known = [...field.list.options].map((option) => [option.value, option.value.toLocaleLowerCase("nb"), option.text]);
  const tests = [
    ([, name, slug]) => name === wanted || slug === wanted,
    ([, name, slug]) => name.startsWith(wanted) || slug.startsWith(wanted),
    ([, name, slug]) => name.includes(wanted) || slug.includes(wanted),
  ];
  const found = wanted ? tests.map((fits) => known.filter(fits)).find((some) => some.length) ?? [] : [];
  if (found.length === 1) {
    field.value = found[0][0];
    byId("transfer-found").textContent = "";
    byId("transfer-note").focus();
  } else if (wanted) {
    byId("transfer-found").textContent = (found.length ? field.dataset.several : field.dataset.none).replace("{text}", text);
  }
}

/** In how many parts a text goes, while it is written. Those who listen hear of it when that changes, not at each key. */
function setUpParts() {
  const shown = byId("reply-parts");
  const area = byId("reply-text");
  if (!shown) return;
  const step = () => shown.firstElementChild.dataset.step;
  const soon = gathered(async () => {
    const before = step();
    const body = new URLSearchParams({ csrf: area.form.elements.namedItem("csrf").value, text: area.value });
    await replaceInside(shown, await fetchPage(shown.dataset.counts, { method: "POST", body }));
    if (step() !== before) say(shown.textContent.trim(), "parts");
  }, 250);
  area.addEventListener("input", soon);
  if (area.value !== area.defaultValue) soon();
}

/** Files chosen for a reply: a list in which each can be taken out again; choosing more adds to it. */
function setUpFiles() {
  const field = byId("reply-files-field");
  const input = byId("reply-files");
  if (!field) return;
  const list = byId("reply-files-list");
  const words = field.dataset;
  let chosen = [];
  const named = (text, file) => text.replace("{name}", () => file.name);
  const show = () => {
    const transfer = new DataTransfer();
    for (const file of chosen) transfer.items.add(file);
    input.files = transfer.files;
    list.replaceChildren(...chosen.map((file) => {
      const item = document.createElement("li");
      const size = document.createElement("span");
      size.className = "hint";
      size.textContent = fileSize(file.size);
      const button = document.createElement("button");
      button.type = "button";
      button.className = "ds-button";
      button.dataset.variant = "tertiary";
      button.dataset.size = "sm";
      button.textContent = named(words.remove, file);
      button.addEventListener("click", () => remove(file));
      item.append(file.name, " ", size, " ", button);
      return item;
    }));
    list.hidden = !chosen.length;
    const total = chosen.reduce((sum, file) => sum + file.size, 0);
    const problem = chosen.length > words.most ? words.tooMany : total > words.limit ? words.tooLarge : "";
    input.setCustomValidity(problem);
    input.toggleAttribute("aria-invalid", Boolean(problem));
    byId("reply-files-problem").textContent = problem;
  };
  const remove = (file) => {
    const at = chosen.indexOf(file);
    chosen.splice(at, 1);
    show();
    say(named(words.removed, file));
    (list.querySelectorAll("button")[Math.min(at, chosen.length - 1)] ?? input).focus();
  };
  input.addEventListener("change", () => {
    const same = (one, other) => one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;
    const fresh = [...input.files].filter((file) => !chosen.some((known) => same(known, file)));
    chosen = [...chosen, ...fresh];
    show();
    if (fresh.length) say(words.chosen.replace("{name}", () => fresh.map((file) => file.name).join(", ")));
  });
}

function fileSize(bytes) {
  const shown = (number) => number.toLocaleString(document.documentElement.lang, { maximumFractionDigits: 1 });
  return bytes >= 1e6 ? `${shown(bytes / 1e6)} MB` : bytes >= 1e3 ? `${shown(bytes / 1e3)} kB` : `${bytes} B`;
}

function forgetDraft(ref, area) {
  store(sessionStorage, `draft:${ref}:${area}`, null);
}

// --- People: each part of a page that shows where people are names the address it comes from. ---

function setUpPresence() {
  const parts = [...document.querySelectorAll("[data-presence]")].map((part) => ({
    part,
    soon: gathered(async () => {
      const html = await fetchPage(part.dataset.presence);
      // Without htmx the focus would fall out of what is replaced.
      if (window.htmx || !part.contains(document.activeElement)) await replaceInside(part, html);
    }),
  }));
  return (person) => {
    for (const { part, soon } of parts) if (!person || (part.dataset.person ?? person) === person) soon();
  };
}

/** A search field whose findings stand in `list`: what is typed is looked up, Enter opens the first. */
function setUpSearch(form, list, address, told) {
  const field = form.elements.namedItem("q");
  const lookUp = async () => {
    const asked = field.value;
    const html = await fetchPage(`${address}?q=${encodeURIComponent(asked)}`);
    if (asked !== field.value) return;
    if ("presence" in list.dataset) list.dataset.presence = `${address}?q=${encodeURIComponent(asked)}`;
    await replaceInside(list, html);
    told((list.querySelector(".person") ?? list).textContent.replace(/\s+/g, " ").trim());
  };
  field.addEventListener("input", gathered(lookUp));
  form.addEventListener("submit", async (event) => {
    if (!field.value.trim()) return;
    event.preventDefault();
    try { await lookUp(); } catch { /* shown by the state of the link */ }
    list.querySelector(".person > a")?.click();
  });
}

const finder = byId("find-person");
if (finder) {
  setUpSearch(byId("find-form"), byId("found"), "/desk/presence/find", (words) => { byId("find-said").textContent = words; });
}
const peopleForm = byId("people-form");
if (peopleForm) setUpSearch(peopleForm, byId("people"), "/desk/presence/rows", say);

function findPerson() {
  const field = byId("people-q") ?? byId("find-q");
  if (field === byId("find-q")) finder.showModal();
  field.focus();
  field.select();
}

const ownPresence = byId("my-presence");
if (ownPresence) {
  const close = (focus) => {
    const details = byId("own-presence");
    if (!details.open) return;
    details.open = false;
    if (focus) details.querySelector("summary").focus();
  };
  ownPresence.addEventListener("submit", () => close(true));
  ownPresence.addEventListener("keydown", (event) => { if (event.key === "Escape") close(true); });
  document.addEventListener("click", (event) => { if (!ownPresence.contains(event.target)) close(false); });
}

// --- Shortcuts. ---

const shortcutsOn = () => stored(localStorage, "shortcuts") !== "off";
const typing = (element) => element?.closest?.("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]");

function moveInList(step) {
  const links = [...document.querySelectorAll("#rows a.open")];
  if (!links.length) return;
  const row = document.activeElement?.closest?.("tr.row");
  const at = row ? links.findIndex((link) => row.contains(link)) : -1;
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.max(0, Math.min(links.length - 1, at + step));
  links[next].focus();
}

function useKey(name) {
  const element = document.querySelector(`[data-key="${name}"]`);
  if (!element) return false;
  const details = element.closest("details");
  if (details) details.open = true;
  if (element.matches("button:not([data-choice]), a")) element.click();
  else element.focus();
  return true;
}

const queueKeys = {
  j: () => moveInList(1),
  k: () => moveInList(-1),
  n: () => byId("next-form").requestSubmit(),
  c: () => document.activeElement?.closest?.("tr.row")?.querySelector(".claim")?.click(),
  v: () => { if (!byId("news").hidden) showNews(); },
  s: () => byId("q").focus(),
};
const inquiryKeys = { u: () => { location.href = byId("back").href; } };
for (const name of ["c", "r", "x", "m", "f", "b", "l"]) inquiryKeys[name] = () => useKey(name);
const personKeys = { u: inquiryKeys.u };
for (const name of ["o", "m", "g", "a", "t"]) personKeys[name] = () => useKey(name);
const talkKeys = {
  n: () => byId("next-form")?.requestSubmit(),
  j: () => moveInTalks(1),
  k: () => moveInTalks(-1),
};
for (const name of ["c", "r", "x", "m", "f", "b", "l", "i"]) talkKeys[name] = () => useKey(name);
for (let n = 1; n <= 9; n += 1) talkKeys[n] = () => openTalk(n);
const contactKeys = { u: inquiryKeys.u, s: () => useKey("s"), z: () => useKey("z") };
const keysHere = live ? queueKeys : inquiry ? inquiryKeys : byId("person") ? personKeys : byId("contact") ? contactKeys : byId("talks") ? talkKeys : {};

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    const form = event.target.closest?.("form[data-write]");
    const button = form && [...form.querySelectorAll("button")].find((each) => each.type === "submit");
    if (form) event.preventDefault();
    if (button && !button.disabled) form.requestSubmit(button);
    return;
  }
  if (event.altKey && byId("talks") && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    moveInTalks(event.key === "ArrowDown" ? 1 : -1);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
  if (typing(event.target)) return;
  const inList = live && event.target.closest?.("#rows");
  if (inList && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    moveInList(event.key === "ArrowDown" ? 1 : -1);
    return;
  }
  if (!shortcutsOn()) return;
  if (event.key === "?") { event.preventDefault(); byId("keys")?.showModal(); return; }
  // A person's page has letters of its own.
  if (callBoard && !byId("person") && useCallKey(event.key)) { event.preventDefault(); return; }
  const action = event.key === "/" && finder ? findPerson : keysHere[event.key];
  if (action) { event.preventDefault(); action(); }
});

for (const button of document.querySelectorAll("[data-opens]")) {
  button.hidden = false;
  button.addEventListener("click", () => byId(button.dataset.opens).showModal());
}

for (const all of document.querySelectorAll("[data-marks]")) {
  all.parentElement.hidden = false;
  all.addEventListener("change", () => {
    for (const box of all.form.querySelectorAll(`[name="${all.dataset.marks}"]`)) box.checked = all.checked;
  });
}

const choice = byId("shortcuts-on");
if (choice) {
  choice.parentElement.hidden = false;
  choice.checked = shortcutsOn();
  choice.addEventListener("change", () => {
    store(localStorage, "shortcuts", choice.checked ? null : "off");
    say(choice.dataset.saved);
  });
}

// --- Signing out: by oneself forgets drafts, by the clock keeps them. ---

document.querySelector("[data-signs-out]")?.addEventListener("submit", () => {
  try { sessionStorage.clear(); } catch { /* storage is off */ }
});

const leaving = byId("leaving");
let endsAt = document.body.dataset.ends ? new Date(document.body.dataset.ends) : null;
function warnOfEnd() {
  const left = endsAt ? endsAt - Date.now() : Infinity;
  leaving.hidden = left > 5 * 60_000 || left < 0;
  if (!leaving.hidden) leaving.querySelector("p").textContent = leaving.dataset.text.replace("{time}", clock(endsAt));
}
leaving?.querySelector("button").addEventListener("click", async () => {
  const response = await fetch("/desk/session");
  if (response.ok && !response.redirected) endsAt = new Date((await response.json()).ends_at);
  warnOfEnd();
});

// --- Starting up. ---

const alarm = byId("alarm");
if (alarm) {
  const soon = live ? setUpQueue() : inquiry ? setUpInquiry() : () => {};
  const alarmSoon = gathered(async () => {
    const html = await fetchPage(`/desk/alarm?page=${encodeURIComponent(location.pathname)}`);
    const template = document.createElement("template");
    template.innerHTML = html;
    const words = (root) => root.textContent.replace(/\s+/g, " ").trim();
    // Only a real change may touch the region: it speaks up each time.
    if (words(alarm) !== words(template.content)) await replaceInside(alarm, html);
  });
  const presenceSoon = setUpPresence();
  const callsSoon = callBoard ? gathered(refreshCalls) : () => {};
  const chatsSoon = chatBoard ? gathered(refreshChats) : () => {};
  document.addEventListener("chats", chatsSoon);
  if (chatBoard) showChats({ waiting: 0, unread: 0 });
  const chatty = new Set(["received", "message_in", "replied", "claimed", "released", "transferred", "returned", "closed", "reopened", "handed_over", "taken_back"]);
  const ofChats = (event) => chatty.has(event.kind) || event.kind.startsWith("chat_");
  if (callBoard) showWaiting(0);
  const ofCalls = (event) => event.kind.startsWith("call") || (event.kind === "received" && event.data.channel === "phone");
  const delivering = new Set(["replied", "sent", "delivered", "not_delivered", "uncertain", "resent"]);
  const alarming = new Set(["emergency", "emergency_seen", "message_in", "message_seen", "handed_over", "handover_seen", "taken_back", "closed", "parked", "stuck", "reload"]);
  // At the first contact too: something may have happened since the page was written.
  let wasLost = true;
  followStream((type, text) => {
    const event = JSON.parse(text);
    if (type === "presence") { presenceSoon(event.data.person); return; }
    if (type === "reload") { presenceSoon(); callsSoon(); chatsSoon(); }
    if (ofCalls(event)) callsSoon();
    if (ofChats(event)) chatsSoon();
    if (delivering.has(event.kind)) document.dispatchEvent(new CustomEvent("delivery", { detail: event.ref }));
    if (type === "reload" || live || event.ref === inquiry?.dataset.ref) soon();
    if (alarming.has(event.kind)) alarmSoon();
  }, (up, anew = false) => {
    streamUp = up;
    if (up && (wasLost || anew)) { soon(); alarmSoon(); presenceSoon(); callsSoon(); chatsSoon(); }
    wasLost = !up;
    showLink();
  });
  // «2 timer igjen» grows old by itself; and whoever comes back to the tab sees the latest.
  const lookAgain = () => { if (!document.hidden) { soon(); alarmSoon(); presenceSoon(); callsSoon(); chatsSoon(); } };
  setInterval(lookAgain, 60_000);
  document.addEventListener("visibilitychange", lookAgain);
  showLink();
}
if (leaving) { setInterval(warnOfEnd, 15_000); warnOfEnd(); }

const noticed = document.querySelector("[data-done]");
if (document.activeElement === document.body) noticed?.focus();
if (noticed) {  // it was so once: whoever loads the page anew, or keeps its address, is not told again
  const here = new URL(location.href);
  for (const name of ["done", "ref"]) here.searchParams.delete(name);
  history.replaceState(history.state, "", here);
}
const gone = noticed?.querySelector("a")?.textContent;
if (gone && noticed.dataset.done === "replied_closed") forgetDraft(gone, "reply-text");
