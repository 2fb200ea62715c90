// What both sides of a chat need. Everything others wrote goes in as text; links are built, never parsed.

export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // no secure context: plain http
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function linkTo(shown, address) {
  const link = element("a", "", shown);
  link.href = address;
  if (!address.startsWith("tel:")) { link.target = "_blank"; link.rel = "noopener noreferrer nofollow"; }
  return link;
}

function webAddress(shown) {
  try {
    const url = new URL(shown.includes("://") ? shown : "https:".concat("//", shown));
    const plain = /^https?:$/.test(url.protocol) && !url.username && !url.password && !shown.split("/")[2]?.includes("@");
    return plain && url.hostname.includes(".") ? url.href : "";
  } catch { return ""; }
}

export function withLinks(target, text, kind) {
  const pattern = kind === "emergency" ? /(?<!\d)(?:11[023]|116 ?\d{3})(?!\d)/g : /(?:https?:\/\/|www\.)[^\s<>"'`]+/gi;
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    const shown = match[0].replace(/[.,;:!?»)\]}…]+$/, "");
    const address = kind === "emergency" ? `tel:${shown.replaceAll(" ", "")}` : webAddress(shown);
    if (!address) continue;
    target.append(text.slice(end, match.index), linkTo(shown, address));
    end = match.index + shown.length;
  }
  target.append(text.slice(end));
}

export function fileRow(file) {
  const row = element("p", "file");
  if (file.url) {
    const link = element("a", "", file.name);
    link.href = file.url;
    link.download = "";
    row.append(link);
  } else {
    row.append(file.name);
  }
  row.append(" ", element("span", "hint", file.size || ""));
  return row;
}

export function keptInTab(prefix) {
  return {
    read(name, otherwise) {
      try { return JSON.parse(sessionStorage.getItem(`${prefix}-${name}`)) ?? otherwise; } catch { return otherwise; }
    },
    write(name, value) {
      try { sessionStorage.setItem(`${prefix}-${name}`, JSON.stringify(value)); } catch { /* storage is off */ }
    },
  };
}

// Who reads further up is not moved: a button tells of what is new below, until they are there.
export function offerNewer(log, atEnd, words, goThere) {
  let button;
  const hide = () => { button?.remove(); button = undefined; };
  log.addEventListener("scroll", () => { if (atEnd()) hide(); });
  return () => {
    if (button) return;
    button = element("button", "ds-button newer", words);
    button.type = "button";
    button.addEventListener("click", () => { hide(); goThere(); });
    log.append(button);
  };
}

// A read mark, or a panel that opens below, pushes the last line out of view: who was at the end stays there.
export function keepAtEnd(log, lines, atEnd) {
  let follows = true;
  log.addEventListener("scroll", () => { follows = atEnd(); });
  const sizes = new ResizeObserver(() => { if (follows) log.scrollTop = log.scrollHeight; });
  sizes.observe(log);
  sizes.observe(lines);
}

export const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
