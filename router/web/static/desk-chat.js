// The talk that is open at the desk: says and hears without loading anew, and loses nothing on the way. Without it, the forms do the same.

import { element, fileRow, keepAtEnd, keptInTab, offerNewer, pause, uuid, withLinks } from "./chat-shared.js";

const byId = (id) => document.getElementById(id);
const root = byId("talk");
const texts = JSON.parse(root.dataset.texts);
const ref = root.dataset.ref;
const base = `/desk/chats/${ref}`;
const log = byId("log");
const lines = byId("lines");
const form = byId("say");
const field = byId("text");
const linkState = byId("link");

let last = Number(root.dataset.last);
let standing = JSON.parse(root.dataset.standing);

document.documentElement.classList.add("js");

// --- What must outlive a change of page: messages on their way in all talks, and what is half written. Of this tab alone. ---

const kept = keptInTab("desk-chat");
// Who signs in next in this tab sends nothing of the one before.
const mine = `of-${root.dataset.user}`;
const outbox = kept.read(`outbox-${mine}`, []); // {id, ref, text, at}; files are held in memory only
const filesOf = new Map();
const keep = () => kept.write(`outbox-${mine}`, outbox);
const draftOf = (talk) => `draft-${talk}-${mine}`;

// --- Showing. ---

function draw(line) {
  const item = element("li", `line ${line.side}`);
  const by = element("p", "by");
  by.append(element("b", "", line.who));
  if (line.mark) by.append(" ", element("span", "line-mark", line.mark));
  const time = element("time", "", line.clock);
  time.dateTime = line.at;
  by.append(" ", time);
  item.append(by);
  if (line.text) {
    const said = element("p", "said");
    withLinks(said, line.text);
    item.append(said);
  }
  item.append(...line.files.map(fileRow));
  if (line.side === "ours") {
    item.dataset.ours = line.in_chat ? "chat" : "letter";
    item.append(element("p", "mark", ""));
  }
  return item;
}

const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 80;
function toEnd() { log.scrollTop = log.scrollHeight; }

const shown = (id) => lines.querySelector(`[data-id="${id}"]`);
const pending = (key) => lines.querySelector(`[data-key-of="${key}"]`);

function add(line) {
  if (line.id && shown(line.id)) return;
  const follow = line.mine || atEnd();
  const item = draw(line);
  if (line.id) item.dataset.id = line.id;
  // Before what is still on its way: the order in which the service has it counts.
  lines.insertBefore(item, line.id ? lines.querySelector(".unsent") : null);
  showMarks();
  if (line.side === "theirs") heard();
  if (follow) toEnd(); else showNewer();
  return item;
}

function showMarks() {
  for (const item of lines.querySelectorAll("[data-ours][data-id]")) {
    const place = item.querySelector(".mark");
    const inChat = Number(item.dataset.id) <= standing.read ? texts.read : texts.sent;
    const words = standing.deliveries[item.dataset.id] ?? (item.dataset.ours === "chat" ? inChat : "");
    if (place.textContent !== words) place.textContent = words;
  }
}

const showNewer = offerNewer(log, atEnd, `${texts.new} ↓`, () => { toEnd(); field.focus(); });
keepAtEnd(log, lines, atEnd);

function tell(text) { if (linkState.textContent !== text) linkState.textContent = text; }

const byLetter = () => standing.way === "email" || standing.way === "sms";

function showStanding(now) {
  const turned = now.holder !== standing.holder || now.closed !== standing.closed || now.state !== standing.state;
  standing = now;
  const words = [now.status, now.where].filter(Boolean).join(" ");
  if (byId("talk-state").textContent !== words) byId("talk-state").textContent = words;
  byId("cannot").hidden = now.may_write;
  byId("cannot").textContent = now.why;
  if (!now.may_write && form.contains(document.activeElement)) byId("talk-title").focus();
  form.hidden = !now.may_write;
  form.querySelector(".send").textContent = byLetter() ? texts[`send_${now.way}`] : texts.send_chat;
  byId("say-keys").textContent = byLetter() ? texts.letter : texts.enter;
  showMarks();
  if (turned) refreshParts();
  if (now.state === "ended") { source?.close(); source = undefined; }
}

/** Buttons that are no longer right are written anew by the service. */
async function refreshParts() {
  try {
    const answer = await fetch(`${base}/live`, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    takeToken(page);
    for (const id of ["talk-head", "talk-actions"]) {
      const now = page.getElementById(id);
      const old = byId(id);
      if (!now || old.contains(document.activeElement)) continue;
      if (id === "talk-actions" && old.querySelector("textarea, input[type=text]")?.value) continue;
      old.replaceChildren(...now.childNodes);
    }
  } catch { /* the next standing tries again */ }
}

// How far an answer has come outside the chat is no news to its resident, so it does not come by the stream.
document.addEventListener("delivery", async (event) => {
  if (event.detail !== ref) return;
  try {
    const answer = await fetch(`${base}/live`, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const now = page.getElementById("talk")?.dataset.standing;
    if (now) showStanding(JSON.parse(now));
  } catch { /* the next standing says it too */ }
});

// --- Asking the service. ---

let token = form.elements.csrf.value;
function takeToken(page) {
  const fresh = page.querySelector("#say [name=csrf]")?.value;
  if (fresh) token = fresh;
}

function post(path, body) {
  const headers = { "X-CSRF-Token": token, Accept: "application/json" };
  if (!(body instanceof FormData)) headers["Content-Type"] = "application/json";
  return fetch(path, { method: "POST", body: body instanceof FormData ? body : JSON.stringify(body ?? {}), headers });
}

// --- Sending: one message after the other, each until it is taken or refused. ---

let onItsWay; // until the service has said which line it became
let heldBack = []; // own lines that came meanwhile: one of them may be just that
let failures = 0;

function mark(key, words) {
  const place = pending(key)?.querySelector(".mark");
  if (place && place.textContent !== words) place.textContent = words;
}

function settled(entry, line) {
  const id = line?.id;
  const index = outbox.findIndex((one) => one.id === entry.id);
  if (index >= 0) outbox.splice(index, 1);
  filesOf.delete(entry.id);
  keep();
  const item = pending(entry.id);
  onItsWay = undefined;
  if (item && id) {
    if (shown(id)) item.remove();
    else {
      // Now with the service's time, and files that can be fetched.
      item.dataset.id = id;
      item.classList.remove("unsent");
      item.replaceChildren(...draw(line).childNodes);
      item.dataset.ours = line.in_chat ? "chat" : "letter";
    }
  }
  const others = heldBack.filter((one) => one.id !== id);
  heldBack = [];
  others.forEach(add);
  showMarks();
}

let pumping = false;
async function pump() {
  if (pumping) return;
  pumping = true;
  while (outbox.length) {
    const entry = outbox[0];
    let wait = 0;
    onItsWay = entry.ref === ref ? entry : undefined;
    try {
      wait = await send(entry);
      if (failures && !wait) { failures = 0; tell(texts.back); }
    } catch {
      failures += 1;
      wait = Math.min(15, 2 ** failures / 4) * (0.75 + Math.random() / 2);
      mark(entry.id, texts.waiting);
      tell(texts.lost);
    }
    if (wait) await pause(wait);
  }
  pumping = false;
}

async function send(entry) {
  // 0 when it is settled, else the seconds after which to try again. Throws when nobody answers.
  mark(entry.id, texts.sending);
  const content = new FormData();
  content.append("text", entry.text);
  content.append("key", entry.id);
  content.append("by", root.dataset.user);
  for (const file of filesOf.get(entry.id) ?? []) content.append("files", file);
  const answer = await post(`/desk/chats/${entry.ref}/messages`, content);
  if (answer.ok) { settled(entry, await answer.json()); return 0; }
  if (answer.status === 401) { mark(entry.id, texts.waiting); tell(texts.signed_out); return 5; }
  if (answer.status === 403) {
    // Signed in anew in another tab: the page's token is of the old session.
    const page = await fetch(`${base}/live`, { headers: { Accept: "text/html" } });
    if (page.ok && !page.redirected) takeToken(new DOMParser().parseFromString(await page.text(), "text/html"));
    mark(entry.id, texts.waiting);
    return 5;
  }
  if (answer.status >= 500 || answer.status === 429) throw new Error(answer.status);
  const problem = answer.headers.get("Content-Type")?.startsWith("application/json") ? (await answer.json()).problem : "";
  refuse(entry, problem);
  return 0;
}

function refuse(entry, problem) {
  pending(entry.id)?.remove();
  settled(entry);
  if (entry.ref === ref && !field.value) { field.value = entry.text; keepDraft(); }
  else kept.write(draftOf(entry.ref), entry.text);
  tell(`${texts.refused} ${problem}`.trim());
}

function put(text, files) {
  const entry = { id: uuid(), ref, text, at: new Date().toISOString() };
  outbox.push(entry);
  if (files.length) filesOf.set(entry.id, files);
  keep();
  show(entry);
  pump();
}

function show(entry) {
  const item = add({
    side: "ours", in_chat: true, mine: true, who: "", mark: "", text: entry.text, at: entry.at,
    clock: new Date(entry.at).toLocaleTimeString("nb-NO", { hour: "2-digit", minute: "2-digit" }),
    files: (filesOf.get(entry.id) ?? []).map((file) => ({ name: file.name })),
  });
  item.querySelector("b").textContent = root.dataset.me;
  item.dataset.keyOf = entry.id;
  item.classList.add("unsent");
  mark(entry.id, texts.sending);
}

// --- Hearing: a stream that goes on after the last line we have. ---

let source;
let broken = 0;

function connect() {
  source?.close();
  const opened = new EventSource(`${base}/events?after=${last}`);
  source = opened;
  opened.onopen = () => {
    if (broken > 1 && !failures) tell(texts.back);
    broken = 0;
  };
  opened.addEventListener("message", (event) => take(JSON.parse(event.data)));
  opened.addEventListener("standing", (event) => showStanding(JSON.parse(event.data)));
  opened.addEventListener("typing", showTyping);
  opened.onerror = async () => {
    if (source !== opened) return;
    broken += 1;
    if (broken > 1) tell(texts.lost);
    if (opened.readyState !== EventSource.CLOSED) return; // the browser itself tries again
    await pause(Math.min(15, 2 ** broken / 2) * (0.75 + Math.random() / 2));
    if (source === opened) connect();
  };
}

function take(line) {
  last = Math.max(last, line.id);
  byId("typing").hidden ||= line.side === "theirs";
  if (line.mine && onItsWay) heldBack.push(line);
  else add(line);
}

let typingTimer;
function showTyping() {
  const follow = atEnd();
  byId("typing").hidden = false;
  if (follow) toEnd();
  clearTimeout(typingTimer);
  typingTimer = setTimeout(() => { byId("typing").hidden = true; }, 5000);
}

// --- Read marks: only whoever holds the talk reads for us. ---

let readTimer;
function heard() {
  if (document.visibilityState !== "visible" || standing.holder !== "me") return;
  clearTimeout(readTimer);
  readTimer = setTimeout(async () => {
    const theirs = [...lines.querySelectorAll(".theirs[data-id]")].pop();
    if (!theirs || Number(theirs.dataset.id) <= standing.seen) return;
    try {
      await post(`${base}/read`, { message_id: Number(theirs.dataset.id) });
      document.dispatchEvent(new CustomEvent("chats"));
    } catch { /* the next one says it too */ }
  }, 300);
}
document.addEventListener("visibilitychange", heard);

// --- The form. ---

const files = byId("files");
let chosen = [];
const keepDraft = () => kept.write(draftOf(ref), field.value);

function submit() {
  const text = field.value.trim();
  if (!text) { field.focus(); return; }
  if (files.validationMessage) { tell(files.validationMessage); return; }
  tell("");
  put(text, chosen);
  field.value = "";
  keepDraft();
  choose([]);
  form.elements.key.value = uuid();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
  field.focus();
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { log.focus(); return; }
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
  // A letter is read over before it goes: there, Enter breaks the line as in every letter.
  if (byLetter() && !event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  submit();
});
let toldTyping = 0;
field.addEventListener("input", () => {
  keepDraft();
  if (!field.value || byLetter() || Date.now() - toldTyping < 3000) return;
  toldTyping = Date.now();
  post(`${base}/typing`).catch(() => {});
});

function choose(list) {
  chosen = list;
  files.value = "";
  const total = list.reduce((sum, file) => sum + file.size, 0);
  files.setCustomValidity(list.length > root.dataset.most ? texts.too_many : total > root.dataset.limit ? texts.too_large : "");
  if (files.validationMessage) tell(files.validationMessage);
  const place = byId("chosen");
  place.hidden = !list.length;
  place.replaceChildren(...list.map((file) => {
    const item = element("li");
    const button = element("button", "ds-button", `${file.name} ✕`);
    button.type = "button";
    button.dataset.variant = "tertiary";
    button.dataset.size = "sm";
    button.setAttribute("aria-label", texts.remove.replace("{name}", () => file.name));
    button.addEventListener("click", () => { choose(chosen.filter((other) => other !== file)); field.focus(); });
    item.append(button);
    return item;
  }));
}
files.addEventListener("change", () => choose([...chosen, ...files.files]));
addEventListener("beforeunload", (event) => { if (filesOf.size || chosen.length) event.preventDefault(); });

// --- Begin: with what an earlier page of this tab left behind. ---

if (root.dataset.follows) connect();
if (!field.value) field.value = kept.read(draftOf(ref), "");
for (const entry of outbox) if (entry.ref === ref) show(entry);
if (outbox.length) pump();
byId("say-keys").textContent = byLetter() ? texts.letter : texts.enter;
toEnd();
heard();
if (!form.hidden && document.activeElement === document.body && !document.querySelector("[data-done], #problem")) field.focus();
