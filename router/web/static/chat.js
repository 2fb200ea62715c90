// The chat on any page of the municipality: <script src="…/static/chat.js" defer></script>. A button, and behind it our own page in a frame.
// Nothing is styled or run inline, so the strictest Content-Security-Policy needs script-src and frame-src of this origin and no more.
(() => {
  const script = document.currentScript;
  const home = new URL(script.src).origin;
  const wanted = (script.dataset.lang || document.documentElement.lang || "nb").slice(0, 2).toLowerCase();
  const lang = { nn: "nn", en: "en" }[wanted] || "nb";
  const words = {
    nb: { open: "Chat med oss", title: "Chat", close: "Lukk chatten", one: "1 ny melding", many: "{n} nye meldinger", failed: "Chatten kan ikke vises på denne siden.", elsewhere: "Åpne chatten i en ny fane" },
    nn: { open: "Chat med oss", title: "Chat", close: "Lukk chatten", one: "1 ny melding", many: "{n} nye meldingar", failed: "Chatten kan ikkje visast på denne sida.", elsewhere: "Opne chatten i ei ny fane" },
    en: { open: "Chat with us", title: "Chat", close: "Close the chat", one: "1 new message", many: "{n} new messages", failed: "The chat cannot be shown on this page.", elsewhere: "Open the chat in a new tab" },
  }[lang];
  const label = script.dataset.label || words.open;

  // Only that it was open here, so that it is still so on the next page of this visit.
  const remember = {
    get open() { try { return sessionStorage.getItem("sentralbord-chat") === "1"; } catch { return false; } },
    set open(is) { try { sessionStorage[is ? "setItem" : "removeItem"]("sentralbord-chat", "1"); } catch { /* storage is off */ } },
  };

  const host = document.createElement("div");
  host.lang = lang;
  const shadow = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    :host { all: initial; }
    * { box-sizing: border-box; font: 500 1rem/1.4 system-ui, sans-serif; }
    button { cursor: pointer; border: 2px solid #fff; border-radius: 2rem; background: #003a70; color: #fff; padding: 0.7rem 1.2rem; min-height: 2.75rem; }
    button:hover { background: #00264a; }
    button:focus-visible { outline: 3px solid #fff; box-shadow: 0 0 0 6px #003a70; }
    .open { position: fixed; inset-block-end: 1rem; inset-inline-end: 1rem; z-index: 2147483000; max-width: calc(100vw - 2rem); }
    .panel { position: fixed; inset-block-end: 1rem; inset-inline-end: 1rem; z-index: 2147483000; width: min(26rem, calc(100vw - 2rem)); height: min(44rem, calc(100dvh - 2rem)); display: flex; flex-direction: column; background: #003a70; border: 2px solid #003a70; border-radius: 0.5rem; overflow: hidden; box-shadow: 0 0.25rem 1.5rem #0006; }
    .bar { display: flex; justify-content: space-between; align-items: center; gap: 0.5rem; padding: 0.25rem 0.25rem 0.25rem 0.9rem; color: #fff; }
    .bar button { border-radius: 0.25rem; padding: 0.4rem 0.8rem; }
    .bar button:focus-visible { outline-offset: -4px; box-shadow: none; }
    iframe { flex: 1; width: 100%; border: 0; background: Canvas; color-scheme: light dark; }
    .instead { flex: 1; padding: 1rem; background: #fff; color: #1e2b3c; }
    .instead a { display: inline-block; padding-block: 0.5rem; color: #003a70; }
    [hidden] { display: none; }
    @media (max-width: 30rem), (max-height: 30rem) { .panel { inset: 0; width: 100%; height: 100%; border-radius: 0; border: 0; } }
    @media (forced-colors: active) { button, .panel { border-color: CanvasText; } .bar { color: CanvasText; } }
    @media print { .open, .panel { display: none; } }
  `);
  shadow.adoptedStyleSheets = [sheet];

  const make = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    if (text) made.textContent = text;
    return made;
  };
  const button = make("button", "open", label);
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  const panel = make("section", "panel");
  panel.setAttribute("aria-label", script.dataset.title || words.title);
  panel.hidden = true;
  const bar = make("div", "bar");
  const close = make("button", "close", words.close);
  close.type = "button";
  bar.append(make("span", "", script.dataset.title || words.title), close);
  // Where the frame stays silent: our page could not be had, or this page may not show it (`embed_on`).
  const instead = make("div", "instead");
  instead.setAttribute("role", "status");
  instead.hidden = true;
  panel.append(bar, instead);
  shadow.append(button, panel);

  let frame;
  let ready = false;
  let answered = false;
  let waiting;
  let focusWhenReady = false;

  function expectAnswer(milliseconds) {
    clearTimeout(waiting);
    if (!answered) waiting = setTimeout(() => {
      const way = make("a", "", words.elsewhere);
      way.href = `${home}/chat?lang=${lang}`;
      way.target = "_blank";
      way.rel = "noopener";
      frame.hidden = true;
      instead.hidden = false;
      instead.replaceChildren(make("p", "", words.failed), way);
      if (!panel.hidden && shadow.activeElement === frame) way.focus();
    }, milliseconds);
  }

  function hasAnswered() {
    answered = true;
    clearTimeout(waiting);
    instead.hidden = true;
    frame.hidden = false;
  }

  function tell(message) {
    if (ready) frame.contentWindow.postMessage({ sentralbord: message }, home);
  }

  function open(focus) {
    if (!frame) {
      frame = make("iframe", "");
      frame.title = script.dataset.title || words.title;
      frame.src = `${home}/chat?embed=1&lang=${lang}`;
      frame.addEventListener("load", () => { ready = true; tell({ open: !panel.hidden, focus: focusWhenReady }); expectAnswer(3_000); });
      panel.append(frame);
      expectAnswer(15_000);
    }
    focusWhenReady = focus;
    panel.hidden = false;
    button.hidden = true;
    button.setAttribute("aria-expanded", "true");
    remember.open = true;
    if (focus) frame.focus();
    tell({ open: true, focus });
    unread(0);
  }

  function shut() {
    panel.hidden = true;
    button.hidden = false;
    button.setAttribute("aria-expanded", "false");
    remember.open = false;
    tell({ open: false });
    button.focus();
  }

  function unread(n) {
    const news = n ? ` (${n === 1 ? words.one : words.many.replace("{n}", n)})` : "";
    button.textContent = label + news;
  }

  button.addEventListener("click", () => open(true));
  close.addEventListener("click", shut);
  panel.addEventListener("keydown", (event) => { if (event.key === "Escape") shut(); });
  addEventListener("message", (event) => {
    const told = event.data?.sentralbord;
    if (!told || event.origin !== home || event.source !== frame?.contentWindow) return;
    hasAnswered();
    if (told.close) shut();
    if (Number.isInteger(told.unread) && panel.hidden) unread(told.unread);
  });

  document.body.append(host);
  if (remember.open) open(false);
})();
