// Who may come in: devices and nodes that ask, that are paired, and a code to invite one with.
import { action, align, ago, h } from "./dom.js";
import { identity } from "./identity.js";
import { follow } from "./link.js";

const EVENTS = ["device.pair.requested", "device.pair.resolved", "node.pair.requested", "node.pair.resolved", "presence"];
const READ_MS = 10_000;

export function draw(view, link) {
  const told = h("p", { class: "faint", role: "status" });
  const [asking, nodes, devices, invitation] = Array.from({ length: 4 }, () => h("div", {}));
  const invites = link.may("operator.admin");
  view.append(h("h1", {}, "Devices"), told, asking, invites ? inviting(link, invitation) : "", invitation,
    h("h2", {}, "Nodes"), nodes, h("h2", {}, "Paired devices"), devices);
  async function read() {
    const ask = (method) => (link.has(method) ? link.request(method) : {});
    const [own, pairing, surfaces, living] = await Promise.all([identity(), ...["device.pair.list", "node.pair.list", "node.list"].map(ask)]);
    const requests = [...(pairing.pending ?? []).map((item) => ({ ...item, kind: "device" })),
      ...(surfaces.pending ?? []).map((item) => ({ ...item, kind: "node" }))];
    align(asking, requests, (item) => item.requestId, (item, had) => had ?? drawRequest(link, item, stop.now));
    align(nodes, living.nodes ?? [], (node) => node.nodeId, (node) => drawNode(node));
    align(devices, pairing.paired ?? [], (device) => device.deviceId, (device, had) => drawDevice(link, device, had, own.id, stop.now));
    told.className = "faint";
    told.textContent = requests.length ? "" : "Nobody waits to be let in.";
  }
  const stop = follow(link, told, { events: EVENTS, everyMs: READ_MS }, read);
  return stop;
}

const nameOf = (item) => item.operatorLabel ?? item.displayName ?? item.clientId ?? item.deviceId ?? item.nodeId;

function drawRequest(link, item, read) {
  const answer = (verb) => async () => {
    await link.request(`${item.kind}.pair.${verb}`, { requestId: item.requestId });
    await read();
  };
  const wishes = item.kind === "device" ? [...(item.roles ?? []), ...(item.scopes ?? [])] : [...(item.caps ?? []), ...(item.commands ?? [])];
  return h("section", { class: "card request", "data-kind": item.kind },
    h("h3", {}, item.kind === "device" ? `${nameOf(item)} asks to be paired` : `${nameOf(item)} asks to offer more`),
    h("p", { class: "faint" }, [item.platform, item.remoteIp ?? "this machine", ago(item.ts)].filter(Boolean).join(" · ")),
    h("p", { class: "wraps" }, wishes.length ? wishes.join(", ") : "nothing in particular"),
    h("div", { class: "row" }, action("Approve", answer("approve"), { class: "main" }), action("Reject", answer("reject"))));
}

function drawNode(node) {
  const state = node.connected ? h("span", { class: "good" }, "connected") : h("span", { class: "faint" }, "away");
  return h("section", { class: "card" }, h("h3", {}, nameOf(node), " ", state),
    h("p", { class: "faint wraps" }, [node.platform, node.version, (node.commands ?? []).join(", ")].filter(Boolean).join(" · ")));
}

function drawDevice(link, device, had, ownId, read) {
  const card = had ?? h("section", { class: "card" }, h("h3", {}), h("p", { class: "faint wraps" }), deviceActs(link, device, read));
  const [name, facts] = card.children;
  name.replaceChildren(nameOf(device), device.deviceId === ownId ? h("span", { class: "faint" }, " (this browser)") : "");
  facts.textContent = [device.platform, device.roles.join(", "), `approved ${ago(device.approvedAtMs)} (${device.approvedVia ?? "owner"})`,
    `seen ${ago(device.lastSeenAtMs)}`].filter(Boolean).join(" · ");
  return card;
}

function deviceActs(link, device, read) {
  const remove = async () => {
    if (!confirm(`Remove ${nameOf(device)}? Its tokens stop working and it is disconnected.`)) return;
    await link.request("device.pair.remove", { deviceId: device.deviceId });
    await read();
  };
  const rename = async () => {
    const label = prompt("What do you call it?", nameOf(device));
    if (label) await link.request("device.pair.rename", { deviceId: device.deviceId, label });
    await read();
  };
  return h("div", { class: "row" }, action("Rename", rename, { class: "quiet" }), action("Remove", remove, { class: "quiet" }));
}

/** A code that pairs the device which scans it. */
function inviting(link, place) {
  return action("Invite a device", async () => {
    const setup = await link.request("device.pair.setupCode", { publicUrl: location.origin.replace(/^http/, "ws") });
    place.replaceChildren(h("section", { class: "card" },
      setup.qrDataUrl && h("img", { class: "qr", src: setup.qrDataUrl, alt: "Setup code as a picture" }),
      h("p", {}, `Scan it with the app, or type the code. It is good once, until ${new Date(setup.expiresAtMs).toLocaleTimeString()}.`),
      setup.accessDowngraded && h("p", { class: "warn" }, "The way to this gateway is not encrypted, so the device is given less."),
      h("pre", { class: "wraps" }, setup.setupCode)));
  });
}
