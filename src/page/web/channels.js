// The channels: how each account is, starting and stopping it, logging in, and who asks to be let in.
import { action, align, ago, h, toast } from "./dom.js";
import { follow } from "./link.js";

const READ_MS = 3_000;
/** How long one call waits for a code to be scanned, ms. */
const SCAN_MS = 25_000;

export function draw(view, link) {
  const told = h("p", { class: "faint", role: "status" });
  const accounts = h("div", {});
  const requests = h("div", {});
  const waiting = h("h2", { hidden: true }, "Who asks to be let in");
  view.append(h("h1", {}, "Channels"), told, waiting, requests, accounts);
  async function read() {
    const status = await link.request("channels.status");
    const all = status.channelOrder.flatMap((channel) =>
      (status.channelAccounts[channel] ?? []).map((account) => ({ ...account, channel, label: status.channelLabels[channel] ?? channel })));
    told.className = "faint";
    told.textContent = all.length ? "" : "No channel is configured. Add one under channels in the configuration.";
    align(accounts, all, ({ channel, accountId }) => `${channel}/${accountId}`, (account, had) => drawAccount(link, account, had, stop.now));
    const asking = link.has("channels.pairing.list") && link.may("operator.pairing") ? (await link.request("channels.pairing.list")).requests : [];
    waiting.hidden = !asking.length;
    align(requests, asking, (request) => request.requestId, (request, had) => had ?? drawRequest(link, request, stop.now));
  }
  const stop = follow(link, told, { everyMs: READ_MS }, read);
  return stop;
}

function drawAccount(link, account, had, read) {
  const card = had ?? makeAccount(link, account, read);
  const [, state, trouble] = card.children;
  const healthy = account.running && !account.lastError;
  state.className = healthy ? "good" : account.running ? "warn" : "bad";
  state.textContent = account.healthState ?? (account.connected ? "connected" : account.running ? "running" : "stopped");
  const kept = Object.entries(account.deliveries ?? {}).filter(([, count]) => count > 0).map(([kind, count]) => `${count} ${kind}`);
  const facts = [`in ${ago(account.lastInboundAt)}`, `out ${ago(account.lastOutboundAt)}`, ...kept];
  state.append(h("span", { class: "faint" }, ` · ${facts.join(" · ")}`));
  trouble.textContent = account.lastError ?? "";
  trouble.hidden = !account.lastError;
  for (const button of card.querySelectorAll("[data-when]")) button.hidden = (button.dataset.when === "running") !== account.running;
  return card;
}

function makeAccount(link, { channel, label, accountId }, read) {
  const touch = (verb) => async () => {
    await link.request(`channels.${verb}`, { channel, accountId });
    toast(`${label} (${accountId}) ${verb === "start" ? "started" : "stopped"}.`);
    await read();
  };
  const place = h("div", {});
  const acts = link.may("operator.admin") ? [
    action("Start", touch("start"), { "data-when": "stopped" }),
    action("Stop", touch("stop"), { "data-when": "running" }),
    channel === "whatsapp" && link.has("web.login.start") && action("Log in", () => login(link, accountId, place)),
  ] : [];
  return h("section", { class: "card", "data-channel": channel },
    h("h3", {}, accountId === "default" ? label : `${label} · ${accountId}`), h("p", {}), h("p", { class: "bad wraps" }),
    h("div", { class: "row" }, acts), place);
}

/** Shows the code, each new one, until it was scanned. */
async function login(link, accountId, place) {
  let told = await link.request("web.login.start", { accountId, timeoutMs: SCAN_MS }, SCAN_MS + 5_000);
  while (!told.connected && told.qrDataUrl && place.isConnected) {
    place.replaceChildren(h("img", { class: "qr", src: told.qrDataUrl, alt: "Code to scan with the phone" }), h("p", {}, told.message));
    told = await link.request("web.login.wait", { accountId, timeoutMs: SCAN_MS, currentQrDataUrl: told.qrDataUrl }, SCAN_MS + 5_000);
  }
  place.replaceChildren(h("p", { class: told.connected ? "good" : "warn" }, told.message));
}

function drawRequest(link, { channel, channelLabel, accountId, requestId, senderId, senderLabel, metadata, createdAt }, read) {
  const named = { channel, accountId, requestId };
  const name = metadata?.name ?? metadata?.username ?? senderId;
  const answer = (method, params) => async () => {
    await link.request(method, params);
    await read();
  };
  return h("section", { class: "card request" }, h("h3", {}, `${name} on ${channelLabel}`),
    h("p", { class: "faint" }, `${senderLabel} ${senderId}${metadata?.code ? `, code ${metadata.code}` : ""}, ${ago(Date.parse(createdAt))}`),
    h("div", { class: "row" },
      action("Let in", answer("channels.pairing.approve", { ...named, notify: true }), { class: "main" }),
      action("Dismiss", answer("channels.pairing.dismiss", named))));
}
