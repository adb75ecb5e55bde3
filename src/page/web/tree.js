// The living supervision tree: what runs, what fell, and what to do about it.
import { action, align, ago, h, span } from "./dom.js";
import { follow } from "./link.js";

/** How often the tree is read while it is looked at; changes of state come as events besides. */
const READ_MS = 2_000;
const TOUCHED = { restart: "restarted", park: "parked", resume: "resumed" };

export function draw(view, link) {
  const summary = h("p", { class: "faint", role: "status" });
  const list = h("ul", { class: "tree" });
  view.append(h("h1", {}, "Supervision tree"), summary, list);
  async function read() {
    const [{ root }, health] = await Promise.all([link.request("system.actors", { depth: 4 }), link.request("health")]);
    const { total, parked, stuck } = health.actors;
    const ill = parked.length || stuck.length;
    summary.className = ill ? "warn" : "good";
    summary.textContent = [`${total} actors`, parked.length && `${parked.length} parked`, stuck.length && `${stuck.length} stuck`, !ill && "all well"]
      .filter(Boolean).join(", ");
    align(list, [root], (actor) => actor.path, (actor, had) => drawActor(link, actor, had, stop.now));
  }
  const stop = follow(link, summary, { events: ["system.actors.changed"], everyMs: READ_MS }, read);
  return stop;
}

function drawActor(link, actor, had, read) {
  const item = had ?? make(link, actor, read);
  const [line, below] = item.children;
  const [dot, , facts] = line.children;
  dot.className = `dot ${actor.state}`;
  dot.title = actor.state;
  facts.replaceChildren(...tell(actor));
  for (const button of line.querySelectorAll("button")) button.hidden = !fits(button.dataset.verb, actor);
  const children = [...(actor.children ?? []), ...(actor.more ? [{ path: `${actor.path}/…`, more: actor.more }] : [])];
  align(below, children, (child) => child.path, (child, old) =>
    child.name ? drawActor(link, child, old, read) : h("li", { class: "faint" }, `and ${child.more} more`));
  return item;
}

function make(link, actor, read) {
  const touch = (verb) => action(verb, async () => {
    await link.request(`system.actors.${verb}`, { path: actor.path });
    await read();
  }, { class: "quiet", "data-verb": verb, "aria-label": `${verb} ${actor.path}` });
  const acts = actor.path !== "gateway" && link.may("operator.admin") ? Object.keys(TOUCHED).map(touch) : [];
  return h("li", {},
    h("div", { class: "actor", "data-path": actor.path }, h("span", { class: "dot" }), h("span", { class: "name" }, actor.name),
      h("span", { class: "faint" }), h("span", { class: "acts" }, acts)),
    h("ul", {}));
}

/** Single connections cannot be touched; only what is parked can be resumed. */
function fits(verb, { state, kind }) {
  if (kind === "connection") return false;
  return verb === "resume" ? state === "parked" : verb === "park" ? state !== "parked" : true;
}

function tell(actor) {
  const facts = [];
  if (actor.state !== "running") facts.push(h("strong", { class: actor.state === "parked" ? "bad" : "warn" }, actor.state));
  else facts.push(`up ${ago(actor.sinceMs).replace(" ago", "")}`);
  if (actor.restarts) facts.push(`${actor.restarts} restart${actor.restarts > 1 ? "s" : ""}`);
  if (actor.mailbox?.depth) facts.push(`${actor.mailbox.depth} waiting`);
  if (actor.busyMs > 100) facts.push(h("span", { class: "warn" }, `busy for ${span(actor.busyMs)}`));
  const info = Object.entries(actor.info ?? {}).filter(([, value]) => typeof value !== "object" && value !== 0);
  if (info.length) facts.push(info.map(([name, value]) => `${name} ${value}`).join(", "));
  if (actor.lastExit) facts.push(h("span", { class: "bad" }, `${actor.lastExit.kind}: ${actor.lastExit.reason} (${ago(actor.lastExit.at)})`));
  return facts.flatMap((fact, place) => (place ? [" · ", fact] : [fact]));
}
