// The frame of the page: who is connected, where one is, and what waits for a person.
import { align, h, toast } from "./dom.js";
import { obstacle } from "./identity.js";
import { Link } from "./link.js";
import { pending } from "./approvals.js";
import * as approvals from "./approvals.js";
import * as channels from "./channels.js";
import * as chat from "./chat.js";
import * as config from "./config.js";
import * as cron from "./cron.js";
import * as devices from "./devices.js";
import * as health from "./health.js";
import * as logs from "./logs.js";
import * as sessions from "./sessions.js";
import * as tree from "./tree.js";

/** Each draws into the element it is given, and returns what stops it. What the gateway cannot do is not shown. */
const PAGES = [
  { path: "chat", title: "Chat", draw: chat.draw, needs: "chat.send" },
  { path: "sessions", title: "Sessions", draw: sessions.draw, needs: "sessions.list" },
  { path: "approvals", title: "Approvals", draw: approvals.draw, needs: "exec.approval.list" },
  { path: "channels", title: "Channels", draw: channels.draw, needs: "channels.status" },
  { path: "cron", title: "Automations", draw: cron.draw, needs: "cron.list" },
  { path: "devices", title: "Devices", draw: devices.draw, needs: "device.pair.list" },
  { path: "tree", title: "Tree", draw: tree.draw, needs: "system.actors" },
  { path: "health", title: "Health", draw: health.draw, needs: "system.info" },
  { path: "logs", title: "Logs", draw: logs.draw, needs: "logs.tail" },
  { path: "config", title: "Config", draw: config.draw, needs: "config.get" },
];

const link = new Link();
const [nav, view, state] = ["nav", "view", "state"].map((id) => document.getElementById(id));
let shown = null;

function pages() {
  return PAGES.filter((page) => link.has(page.needs));
}

function route() {
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return { page: pages().find((page) => page.path === path) ?? pages()[0], argument: decodeURIComponent(rest.join("/")) };
}

function drawNav() {
  const { page } = route();
  align(nav, pages(), (item) => item.path, (item, had) => {
    const element = had ?? h("a", { href: `#/${item.path}` });
    const count = item.path === "approvals" ? pending.count() : 0;
    element.replaceChildren(item.title, ...(count ? [h("span", { class: "badge", "aria-label": `${count} waiting` }, String(count))] : []));
    element.toggleAttribute("aria-current", item === page);
    if (item === page) element.setAttribute("aria-current", "page");
    return element;
  });
}

/** Draws the page of the address. The same page again hears of the new connection by itself. */
function show() {
  const { page, argument } = route();
  if (!page) return;
  drawNav();
  if (shown?.page === page && shown.argument === argument) return;
  shown?.stop();
  view.replaceChildren();
  document.title = `${page.title} · Crabtree`;
  shown = { page, argument, stop: page.draw(view, link, argument) ?? (() => {}) };
}

function login(why) {
  shown?.stop();
  shown = null;
  nav.replaceChildren();
  state.className = "";
  state.textContent = "Not connected";
  const secret = h("input", { type: "password", id: "secret", autocomplete: "current-password", required: true });
  const submit = (event) => {
    event.preventDefault();
    state.textContent = "Connecting…";
    link.start(secret.value.trim());
  };
  view.replaceChildren(
    h("section", { class: "card login" },
      h("h1", {}, "Connect to this gateway"),
      h("p", {}, "The gateway's secret is asked for once; afterwards this browser has a token of its own. ",
        h("code", {}, "crabtree token"), " prints it."),
      why && h("p", { class: "bad", role: "alert" }, why),
      h("form", { onsubmit: submit }, h("label", { for: "secret" }, "Gateway secret"), secret,
        h("button", { class: "main" }, "Connect"))),
  );
  secret.focus();
}

link.on("up", () => {
  state.className = "up";
  state.textContent = "Connected";
  if (view.querySelector(".login")) view.replaceChildren();
  pending.follow(link, drawNav);
  show();
});
link.on("down", ({ why }) => {
  state.className = "down";
  state.textContent = why;
});
link.on("login", login);
link.on("event:shutdown", () => toast("The gateway goes down; this page reconnects by itself."));
addEventListener("hashchange", () => {
  if (!link.hello) return;
  show();
  view.focus();
});

const given = /^#token=(.+)$/.exec(location.hash);
if (given) history.replaceState(null, "", location.pathname);
const unable = obstacle();
if (unable) {
  state.textContent = "Not connected";
  view.replaceChildren(h("section", { class: "card login" }, h("h1", {}, "This address is not safe enough"), h("p", {}, unable)));
} else {
  link.start(given ? decodeURIComponent(given[1]) : null);
}
