// How the gateway is: what stands still, what waits, and the process itself.
import { ago, h, span } from "./dom.js";
import { follow } from "./link.js";

const READ_MS = 5_000;

export function draw(view, link) {
  const verdict = h("p", { class: "faint", role: "status" });
  const troubles = h("ul", {});
  const facts = h("tbody", {});
  view.append(h("h1", {}, "Health"), verdict, troubles, h("div", { class: "scroll" }, h("table", {}, facts)));
  async function read() {
    const [health, status, system] = await Promise.all(["health", "status", "system.info"].map((method) => link.request(method)));
    const found = troublesOf(health);
    verdict.className = health.ok && !found.length ? "good" : "warn";
    verdict.textContent = found.length ? "Something needs you:" : health.ok ? "All is well." : "Something is not well.";
    troubles.replaceChildren(...found.map(([text, place]) => h("li", {}, text, " ", h("a", { href: place }, "look"))));
    facts.replaceChildren(...factsOf(health, status, system).map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value))));
  }
  return follow(link, verdict, { events: ["health", "system.actors.changed"], everyMs: READ_MS }, read);
}

/** What does not go by itself, each with the page that tells more. */
function troublesOf({ actors, inputs, channelOrder, channels, channelLabels }) {
  const ill = channelOrder.filter((name) => channels[name]?.lastError);
  return [
    ...actors.parked.map((path) => [`${path} is parked.`, "#/tree"]),
    ...actors.stuck.map((path) => [`${path} does not get on.`, "#/tree"]),
    ...ill.map((name) => [`${channelLabels[name] ?? name}: ${channels[name].lastError}`, "#/channels"]),
    ...(inputs.dead ? [[`${inputs.dead} ${inputs.dead === 1 ? "message was" : "messages were"} given up.`, "#/logs"]] : []),
  ];
}

function factsOf(health, status, system) {
  return [
    ["Version", `${system.version} on ${system.hostname} (${system.osLabel}, ${system.arch})`],
    ["Runs for", span(system.uptimeMs)],
    ["Process", `${system.pid}`],
    ["Actors", `${health.actors.total}`],
    ["Connections", `${system.connections}, ${system.bufferedBytes} bytes wait for them`],
    ["Conversations", `${status.sessions.count}, ${status.activeRuns} at work`],
    ["Messages that wait", `${health.inputs.queued}`],
    ["Channels", health.channelOrder.join(", ") || "none"],
    ["Looked at", `${span(Math.max(0, Date.now() - health.ts))} ago`],
  ];
}
