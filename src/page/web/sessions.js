// The sessions: which there are, who is at work, and a way into each.
import { action, align, ago, h } from "./dom.js";
import { follow } from "./link.js";

const MOST = 200;

export function draw(view, link) {
  const words = h("input", { type: "search", placeholder: "Search", "aria-label": "Search sessions", class: "grow", oninput: sift });
  const fresh = h("input", { placeholder: "name of a new session", "aria-label": "Name of a new session", required: true, pattern: "[^\\s/]+" });
  const open = (event) => {
    event.preventDefault();
    location.hash = `#/chat/${encodeURIComponent(fresh.value)}`;
  };
  const rows = h("tbody", {});
  const told = h("p", { class: "faint", role: "status" });
  view.append(h("h1", {}, "Sessions"),
    h("div", { class: "row" }, words, h("form", { class: "row", onsubmit: open }, fresh, h("button", {}, "Open"))), told,
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Session", "State", "Model", "Tokens", "Last", ""].map((name) => h("th", {}, name)))), rows)));

  function sift() {
    for (const row of rows.children) row.hidden = !row.textContent.toLowerCase().includes(words.value.toLowerCase());
  }
  async function read() {
    const { sessions, totalCount } = await link.request("sessions.list", { limit: MOST, includeDerivedTitles: true });
    align(rows, sessions, (session) => session.key, (session, had) => drawRow(link, session, had, stop.now));
    told.className = "faint";
    told.textContent = totalCount > sessions.length ? `the newest ${sessions.length} of ${totalCount}` : "";
    sift();
  }
  const subscribe = () => link.request("sessions.subscribe").catch(() => {});
  const stops = [link.on("up", subscribe)];
  subscribe();
  const stop = follow(link, told, { events: ["sessions.changed"] }, read);
  return () => [...stops, stop].forEach((end) => end());
}

function drawRow(link, session, had, read) {
  const row = had ?? h("tr", {}, h("td", { class: "name" }), h("td", {}), h("td", {}), h("td", {}), h("td", {}), h("td", {}, acts(link, session, read)));
  const [name, state, model, tokens, last] = row.children;
  name.replaceChildren(h("a", { href: `#/chat/${encodeURIComponent(session.key)}` }, session.derivedTitle ?? session.displayName ?? session.key),
    h("div", { class: "faint" }, session.key));
  state.className = session.hasActiveRun ? "warn" : session.status === "failed" ? "bad" : "";
  state.textContent = session.hasActiveRun ? "at work" : session.status ?? "";
  model.textContent = [session.modelProvider, session.model].filter(Boolean).join("/");
  tokens.textContent = session.totalTokens === undefined ? "" : `${session.totalTokens} of ${session.contextTokens}`;
  last.textContent = ago(session.updatedAt);
  return row;
}

function acts(link, { key, isMain }, read) {
  if (!link.may("operator.admin")) return [];
  const sure = (question, method, params) => async () => {
    if (!confirm(question)) return;
    await link.request(method, params);
    await read();
  };
  return [
    action("Reset", sure(`Start ${key} afresh? Its messages are put aside.`, "sessions.reset", { key }), { class: "quiet" }),
    !isMain && action("Delete", sure(`Delete ${key} and its messages?`, "sessions.delete", { key, deleteTranscript: true }), { class: "quiet" }),
  ];
}
