// The end of the log, followed.
import { h } from "./dom.js";
import { follow } from "./link.js";

const READ_MS = 2_000;
/** Lines that are kept on the page. */
const MAX_LINES = 2_000;
const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];

export function draw(view, link) {
  const words = h("input", { type: "search", placeholder: "words or subsystem", "aria-label": "Filter", class: "grow", oninput: sift });
  const level = h("select", { "aria-label": "Least level", onchange: sift }, LEVELS.map((name) => h("option", { value: name }, name.toLowerCase())));
  level.value = "INFO";
  const follows = h("input", { type: "checkbox", id: "follow", checked: true });
  const list = h("div", { class: "log", role: "log", tabindex: "0", "aria-label": "Log" });
  const trouble = h("p", { class: "warn" });
  view.append(h("h1", {}, "Logs"),
    h("div", { class: "row" }, words, level, h("label", { for: "follow" }, follows, " follow")), trouble, list);
  let cursor = null;

  function fits(line) {
    const text = line.textContent.toLowerCase();
    const enough = LEVELS.indexOf(line.dataset.level) >= LEVELS.indexOf(level.value);
    return enough && words.value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }
  function sift() {
    for (const line of list.children) line.hidden = !fits(line);
  }
  async function read() {
    const page = await link.request("logs.tail", cursor === null ? { limit: 500 } : { cursor, limit: 1_000 });
    if (page.reset) list.replaceChildren();
    cursor = page.cursor;
    for (const raw of page.lines) {
      const line = entry(raw);
      line.hidden = !fits(line);
      list.append(line);
    }
    while (list.children.length > MAX_LINES) list.firstElementChild.remove();
    if (page.lines.length && follows.checked) list.lastElementChild.scrollIntoView({ block: "end" });
    trouble.textContent = "";
  }
  return follow(link, trouble, { everyMs: READ_MS }, read);
}

function entry(raw) {
  let said = {};
  try {
    said = JSON.parse(raw);
  } catch {
    return h("div", { "data-level": "INFO" }, raw);
  }
  const level = said._meta?.logLevelName ?? "INFO";
  const subsystem = /"subsystem":"([^"]+)"/.exec(said._meta?.name ?? "")?.[1] ?? "";
  const time = new Date(said.time);
  const at = isNaN(time) ? "" : time.toLocaleTimeString([], { hour12: false });
  const kind = level === "ERROR" ? "bad" : level === "WARN" ? "warn" : null;
  return h("div", { "data-level": level, class: kind, title: said.time ?? null }, `${at} ${level.padEnd(5)} ${subsystem} ${said.message ?? raw}`);
}
