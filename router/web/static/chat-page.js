// The page of the chat: says and hears without loading anew, and loses nothing on the way. Without it, the forms do the same.

import { element, fileRow, keepAtEnd, keptInTab, offerNewer, pause, uuid, withLinks } from "./chat-shared.js";

const byId = (id) => document.getElementById(id);
const root = byId("chat");
const texts = JSON.parse(root.dataset.texts);
const embedOn = root.dataset.embedOn.split(" ").filter(Boolean);
const log = byId("log");
const lines = byId("lines");
const field = byId("text");
const linkState = byId("link");

let key = root.dataset.key;
let last = Number(root.dataset.last);
let standing = JSON.parse(root.dataset.standing);

document.documentElement.classList.add("js");

// --- What must outlive a reload: messages on their way, and what is half written. Of this tab alone. ---

const kept = keptInTab("chat");
const outbox = kept.read("outbox", []); // {id, text, at, confirmed}; files are held in memory only
const filesOf = new Map();
const keep = () => kept.write("outbox", outbox);

// --- Showing. Everything others wrote goes in as text; links are built, never parsed. ---

const clockOf = (time) => time.toLocaleTimeString("nb-NO", { hour: "2-digit", minute: "2-digit" });
const onlyEmoji = (text) => text.length <= 12 && /^[\p{Extended_Pictographic}\p{Emoji_Modifier}\u200d\ufe0f\s]+$/u.test(text);

function draw(line) {
  const item = element("li", `line ${line.mine ? "mine" : "theirs"} kind-${line.kind}`);
  const who = element("p", "who", line.mine ? texts.you : line.name);
  const time = element("time", "", line.clock);
  time.dateTime = line.at;
  who.append(" ", time);
  item.append(who);
  if (line.text) {
    const said = element("p", onlyEmoji(line.text) ? "said large" : "said");
    withLinks(said, line.text, line.kind);
    item.append(said);
  }
  item.append(...line.files.map(fileRow));
  if (line.mine) item.append(element("p", "mark", ""));
  return item;
}

const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 80;
function toEnd() {
  log.scrollTop = log.scrollHeight;
  // On low screens the whole page scrolls: what has the focus must not leave the view for it.
  if (document.activeElement === field) { field.scrollIntoView({ block: "nearest" }); return; }
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  lines.lastElementChild?.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
}

function add(line) {
  last = Math.max(last, line.id || 0);
  const known = line.id && lines.querySelector(`[data-id="${line.id}"]`);
  if (known) { settle(known, line); return; }
  const follow = line.mine || atEnd();
  const pending = line.client_msg_id && lines.querySelector(`[data-client="${line.client_msg_id}"]`);
  const item = draw(line);
  if (line.id) item.dataset.id = line.id;
  if (line.client_msg_id) item.dataset.client = line.client_msg_id;
  if (pending) {
    // Sent from here and now kept: the same words again would be read aloud twice.
    pending.dataset.id = line.id;
    pending.classList.remove("unsent");
    settle(pending, line);
    done(line.client_msg_id);
  } else {
    // Before what is still on its way: the order in which we have it counts.
    lines.insertBefore(item, line.id ? lines.querySelector(".unsent") : null);
  }
  showMarks();
  if (!line.mine && line.id) heard();
  if (follow) toEnd(); else showNewer();
}

// What was sent from here has the service's time, and its files can be fetched, once the service has it.
function settle(item, line) {
  const time = item.querySelector("time");
  time.textContent = line.clock;
  time.dateTime = line.at;
  if (!line.files.length || item.querySelector(".file a")) return;
  const rows = draw(line).querySelectorAll(".file");
  [...item.querySelectorAll(".file")].forEach((old, index) => rows[index] && old.replaceWith(rows[index]));
}

function showMarks() {
  for (const item of lines.querySelectorAll(".mine[data-id]")) {
    const mark = Number(item.dataset.id) <= (standing.read || 0) ? texts.read : texts.sent;
    const place = item.querySelector(".mark");
    if (place.textContent !== mark) place.textContent = mark;
  }
}

const showNewer = offerNewer(log, atEnd, `${texts.new} ↓`, () => { toEnd(); field.focus(); });
keepAtEnd(log, lines, atEnd);

function showStanding(now) {
  standing = now;
  if (now.status && byId("standing").textContent !== now.status) byId("standing").textContent = now.status;
  showReach();
  showMarks();
  if (now.state === "ended") over();
}

// Where an answer goes; what somebody is typing there stays.
function showReach() {
  const place = byId("address");
  place.hidden = !standing.ask_address;
  place.querySelector("summary").textContent = standing.reach ? texts.change : texts.where;
  byId("reach").textContent = standing.reach || "";
  byId("reach").hidden = !standing.reach;
  if (place.open) return;
  const { email, phone } = place.querySelector("form").elements;
  email.value = standing.email || "";
  if (phone) phone.value = standing.phone || "";
}

function over() {
  source?.close();
  source = undefined;
  key = "";
  for (const id of ["say", "more", "address", "reach", "question"]) byId(id).hidden = true;
  byId("again").hidden = false;
  byId("standing").textContent = texts.ended;
}

// `tone`: "good" for what has been done, "bad" for what has not; without one it may still come right.
function say(text, tone = "") {
  linkState.dataset.tone = tone;
  if (linkState.textContent !== text) linkState.textContent = text;
}

// --- Asking the service. ---

async function post(path, body) {
  const form = body instanceof FormData;
  return fetch(`/chat/conversations${path}`, {
    method: "POST",
    body: form ? body : JSON.stringify(body),
    headers: form ? {} : { "Content-Type": "application/json" },
  });
}

// --- Sending: one message after the other, each until it is taken or refused. ---

let pumping = false;
let failures = 0;

const done = (id) => {
  const index = outbox.findIndex((entry) => entry.id === id);
  if (index >= 0) outbox.splice(index, 1);
  filesOf.delete(id);
  keep();
};

function mark(id, text) {
  const place = lines.querySelector(`[data-client="${id}"] .mark`);
  if (place && place.textContent !== text) place.textContent = text;
}

async function pump() {
  if (pumping) return;
  pumping = true;
  while (outbox.length) {
    const entry = outbox[0];
    let wait = 0;
    try {
      wait = await send(entry);
      if (failures) { failures = 0; if (linkState.dataset.tone !== "bad") say(texts.back, "good"); }
    } catch {
      failures += 1;
      wait = Math.min(15, 2 ** failures / 2) * (0.75 + Math.random() / 2);
      mark(entry.id, texts.waiting);
      say(texts.lost);
    }
    if (wait) await pause(wait);
  }
  pumping = false;
}

async function send(entry) {
  // 0 when it is settled, else the seconds after which to try again. Throws when nobody answers.
  if (!key) {
    const opened = await post("", { language: root.dataset.lang });
    if (opened.status === 429) {
      takeBack(Number(opened.headers.get("Retry-After")) || 60);
      return 0;
    }
    if (!opened.ok) throw new Error(opened.status);
    key = (await opened.json()).id;
    byId("more").hidden = false;
    connect();
  }
  mark(entry.id, texts.sending);
  const answer = await post(`/${key}/messages`, content(entry));
  if (answer.ok) {
    const taken = await answer.json();
    const item = lines.querySelector(`[data-client="${entry.id}"]`);
    if (item) { item.dataset.id = taken.id; item.classList.remove("unsent"); }
    done(entry.id);
    showMarks();
    return 0;
  }
  if (answer.status === 404) {
    // It has run out, in another tab or by time. What was written is not lost: it begins a new one.
    key = "";
    last = 0;
    standing = {};
    lines.insertBefore(element("li", "line parting", texts.over), lines.querySelector(".unsent"));
    for (const item of lines.querySelectorAll("[data-id]")) delete item.dataset.id;
    return 0.5;
  }
  if (answer.status === 429) {
    mark(entry.id, texts.waiting);
    say(texts.busy);
    return Math.min(Number(answer.headers.get("Retry-After")) || 5, 60);
  }
  if (answer.status === 422 || answer.status === 413) {
    const problems = answer.status === 413 ? { files: "too_large" } : (await answer.json()).problems || {};
    refuse(entry, problems);
    return 0;
  }
  throw new Error(answer.status);
}

function content(entry) {
  const files = filesOf.get(entry.id) || [];
  if (!files.length) return { client_msg_id: entry.id, text: entry.text, confirmed: entry.confirmed };
  const form = new FormData();
  form.append("client_msg_id", entry.id);
  form.append("text", entry.text);
  form.append("confirmed", entry.confirmed);
  for (const file of files) form.append("files", file);
  return form;
}

function refuse(entry, problems) {
  const [[what, code]] = Object.entries(problems).concat([["other", ""]]);
  lines.querySelector(`[data-client="${entry.id}"]`)?.remove();
  done(entry.id);
  if (!field.value) field.value = entry.text;
  if (code === "national_id") ask(entry.text);
  else say(texts[`${what} ${code}`] || texts.refused, "bad");
}

// No conversation for now: nothing goes by itself later, so what was to be sent is in the field again.
function takeBack(seconds) {
  const words = outbox.map((entry) => entry.text);
  const back = outbox.flatMap((entry) => filesOf.get(entry.id) || []);
  for (const entry of [...outbox]) {
    lines.querySelector(`[data-client="${entry.id}"]`)?.remove();
    done(entry.id);
  }
  field.value = [...words, field.value].filter(Boolean).join("\n");
  kept.write("draft", field.value);
  choose([...back, ...chosen]);
  const again = new Date(Math.ceil((Date.now() + seconds * 1000) / 60_000) * 60_000);
  const link = element("a", "", texts.form);
  link.href = root.dataset.form;
  if (document.body.classList.contains("embedded")) link.target = "_blank";
  say(texts.full.replace("{clock}", clockOf(again)), "bad");
  linkState.append(" ", link);
}

function put(text, files, confirmed) {
  const entry = { id: uuid(), text, confirmed, at: new Date().toISOString() };
  outbox.push(entry);
  if (files.length) filesOf.set(entry.id, files);
  keep();
  show(entry);
  pump();
}

function show(entry) {
  add({
    mine: true, kind: "contact", text: entry.text, at: entry.at, client_msg_id: entry.id,
    clock: clockOf(new Date(entry.at)),
    files: (filesOf.get(entry.id) || []).map((file) => ({ name: file.name })),
  });
  lines.querySelector(`[data-client="${entry.id}"]`).classList.add("unsent");
  mark(entry.id, texts.sending);
}

// --- Hearing: a stream that goes on after the last message we have; else we ask from time to time. ---

let source;
let broken = 0;

function connect() {
  source?.close();
  if (!key) return;
  const mine = new EventSource(`/chat/conversations/${key}/events?after=${last}`);
  source = mine;
  mine.onopen = () => {
    if (broken > 1) say(texts.back, "good");
    else if (linkState.textContent !== texts.busy) say("");
    broken = 0;
  };
  mine.addEventListener("message", (event) => add(JSON.parse(event.data)));
  mine.addEventListener("standing", (event) => showStanding(JSON.parse(event.data)));
  mine.addEventListener("typing", () => showTyping());
  mine.onerror = async () => {
    if (source !== mine) return;
    broken += 1;
    if (broken > 1) say(texts.lost);
    if (mine.readyState !== EventSource.CLOSED) return; // the browser itself tries again
    await pause(Math.min(15, 2 ** broken) * (0.75 + Math.random() / 2));
    if (source === mine && (await look())) connect();
  };
}

async function look() {
  // What is new, without a stream; whether there still is a conversation.
  try {
    const answer = await fetch(`/chat/conversations/${key}/messages?after=${last}`);
    if (answer.status === 404) { if (!outbox.length) over(); return false; }
    if (answer.ok) {
      const now = await answer.json();
      now.messages.forEach(add);
      showStanding(now.standing);
    }
  } catch { /* no connection: the next try comes */ }
  return Boolean(key);
}

let typingTimer;
function showTyping() {
  const place = byId("typing");
  const follow = atEnd();
  const name = [...lines.querySelectorAll(".theirs.kind-reply .who")].pop()?.firstChild?.textContent?.trim() || texts.us;
  place.textContent = texts.typing.replace("{name}", name);
  place.hidden = false;
  if (follow) log.scrollTop = log.scrollHeight;
  clearTimeout(typingTimer);
  typingTimer = setTimeout(() => { place.hidden = true; }, 5000);
}

// --- Read marks, and what is unread in the title and on the button of the widget. ---

let shown = true; // whether the widget is open around us
let readTimer;
let unread = 0;
const title = document.title;
const seen = () => shown && document.visibilityState === "visible";

function heard() {
  byId("typing").hidden = true;
  if (seen()) { noteRead(); return; }
  unread += 1;
  tellUnread();
}

function noteRead() {
  if (unread) { unread = 0; tellUnread(); }
  clearTimeout(readTimer);
  readTimer = setTimeout(() => {
    if (key && seen()) post(`/${key}/read`, { message_id: last }).catch(() => {});
  }, 400);
}

function tellUnread() {
  document.title = unread ? `(${unread}) ${title}` : title;
  tellWidget({ unread });
}

document.addEventListener("visibilitychange", () => { if (seen()) noteRead(); });

// --- The widget around us, on a page that may show us. ---

let widget;
const tellWidget = (message) => { if (widget) parent.postMessage({ sentralbord: message }, widget); };

addEventListener("message", (event) => {
  const told = event.data?.sentralbord;
  if (event.source !== parent || !told) return;
  if (!embedOn.includes(event.origin) && event.origin !== location.origin) return;
  widget = event.origin;
  tellWidget({ here: true });
  shown = Boolean(told.open);
  if (shown) { noteRead(); if (told.focus) field.focus(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = document.querySelector("details.emoji[open]");
  if (open) { open.open = false; open.querySelector("summary").focus(); } else tellWidget({ close: true });
});

// --- The form. ---

const form = byId("say");
const files = byId("files");
let chosen = [];

// Before somebody sends a fødselsnummer, we ask. The service asks again.
function looksNational(text) {
  const pattern = /(?<![\d.])(\d{6})[ \u00a0\u2009\u202f\u2010-\u2013-]{0,3}(\d{5})(?!\d)/g;
  return [...text.matchAll(pattern)].some(([, date, rest]) => {
    const digits = [...date + rest].map(Number);
    const sum = (weights) => weights.reduce((total, weight, at) => total + weight * digits[at], 0) % 11;
    if (sum([3, 7, 6, 1, 8, 9, 4, 5, 2, 1]) > 3 || sum([5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1])) return false;
    const day = Number(date.slice(0, 2)) % 40;
    let month = Number(date.slice(2, 4));
    for (const offset of [80, 65, 40]) if (month > offset) { month -= offset; break; }
    return day >= 1 && day <= 31 && month >= 1 && month <= 12;
  });
}

function ask(text) {
  byId("question-text").textContent = texts["text national_id"];
  byId("question").hidden = false;
  byId("question").dataset.text = text;
  byId("change").focus();
}

function submit(confirmed = false) {
  const text = field.value.trim();
  if (!text && !chosen.length) { field.focus(); return; }
  if (!confirmed && looksNational(text)) { ask(text); return; }
  byId("question").hidden = true;
  say("");
  put(text, chosen, confirmed);
  field.value = "";
  kept.write("draft", "");
  choose([]);
  form.elements.key.value = uuid();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (form.elements.website.value) return; // no person sees that field
  submit();
  field.focus();
});
field.addEventListener("keydown", (event) => {
  // With a keyboard at hand Enter sends; on glass it makes a new line, as everywhere there.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
  event.preventDefault();
  submit();
});
let toldTyping = 0;
field.addEventListener("input", () => {
  kept.write("draft", field.value);
  if (!key || !field.value || Date.now() - toldTyping < 3000) return;
  toldTyping = Date.now();
  post(`/${key}/typing`, {}).catch(() => {});
});
byId("change").addEventListener("click", () => { byId("question").hidden = true; field.focus(); });
byId("send-anyway").addEventListener("click", () => {
  if (!field.value) field.value = byId("question").dataset.text;
  submit(true);
  field.focus();
});

function choose(list) {
  chosen = list;
  files.value = "";
  const place = byId("chosen");
  place.hidden = !list.length;
  place.replaceChildren(...list.map((file) => {
    const item = element("li");
    const button = element("button", "", `${file.name} ✕`);
    button.type = "button";
    button.setAttribute("aria-label", texts.remove.replace("{name}", file.name));
    button.addEventListener("click", () => { choose(chosen.filter((other) => other !== file)); field.focus(); });
    item.append(button);
    return item;
  }));
}
files.addEventListener("change", () => {
  const all = [...chosen, ...files.files];
  const large = all.some((file) => file.size > Number(root.dataset.limit));
  const many = all.length > Number(root.dataset.count);
  say(large ? texts["files too_large"] : many ? texts["files too_many"] : "", "bad");
  choose(all.filter((file) => file.size <= Number(root.dataset.limit)).slice(0, Number(root.dataset.count)));
});

for (const face of document.querySelectorAll("[data-face]")) {
  face.addEventListener("click", () => {
    field.setRangeText(face.dataset.face, field.selectionStart, field.selectionEnd, "end");
    byId("emoji").open = false;
    field.focus();
    field.dispatchEvent(new Event("input"));
  });
}

// --- The other forms. ---

// What is wrong stands at its field, as where the service says it.
function tellFaults(sent, problems) {
  for (const [what, code] of Object.entries(problems)) {
    const input = sent.elements[what] || sent.querySelector("input");
    const note = element("p", "ds-validation-message field-error", texts[`${what} ${code}`] || texts.refused);
    note.id = `${input.id}-error`;
    note.setAttribute("role", "alert");
    input.before(note);
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", note.id);
  }
  sent.querySelector("[aria-invalid]")?.focus();
}

function clearFaults(sent) {
  for (const note of sent.querySelectorAll(".field-error")) note.remove();
  for (const input of sent.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
}

async function hand(event, path, body, thanks) {
  event.preventDefault();
  const sent = event.target;
  clearFaults(sent);
  say("");
  try {
    const answer = await post(`/${key}${path}`, body);
    if (answer.status === 422) {
      const { problems } = await answer.json();
      if (problems) { tellFaults(sent, problems); return false; }
    }
    if (answer.ok) {
      sent.closest("details")?.removeAttribute("open");
      say(thanks, "good");
      return true;
    }
  } catch { /* no connection */ }
  say(texts.refused, "bad");
  return false;
}

byId("address").querySelector("form").addEventListener("submit", async (event) => {
  const { name, email, phone } = event.target.elements;
  const body = { name: name.value, email: email.value, phone: phone?.value || "" };
  const thanks = texts.address.replace("{address}", () => email.value.trim() || phone.value.trim());
  if (await hand(event, "/contact", body, thanks)) field.focus();
});
byId("transcript").addEventListener("submit", async (event) => {
  const sent = event.target;
  if (await hand(event, "/transcript", { email: sent.elements.recipient.value }, texts.transcript)) sent.reset();
});
byId("end").addEventListener("submit", async (event) => {
  if (await hand(event, "/leave", {}, texts.ended)) { over(); byId("again").querySelector("a").focus(); }
});

// --- Begin: with what an earlier page of this tab left behind. ---

if (key) connect();
if (!field.value) field.value = kept.read("draft", "");
for (const entry of outbox) if (!lines.querySelector(`[data-client="${entry.id}"]`)) show(entry);
if (outbox.length) pump();
toEnd();
if (key) noteRead();
