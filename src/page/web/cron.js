// Jobs with a schedule: when each is due, turning it on and off, running it now, and what became of it.
import { action, align, ago, h, span, toast } from "./dom.js";
import { follow } from "./link.js";

const READ_MS = 15_000;
/** Records that are shown of a job. */
const RUNS = 10;

export function draw(view, link) {
  const told = h("p", { class: "faint", role: "status" });
  const jobs = h("div", {});
  view.append(h("h1", {}, "Automations"), told, jobs);
  async function read() {
    const { jobs: all } = await link.request("cron.list", { enabled: "all", limit: 200 });
    told.className = "faint";
    told.textContent = all.length ? "" : "No job has a schedule. Ask the agent for one, or: crabtree cron add.";
    align(jobs, all, (job) => job.id, (job, had) => drawJob(link, job, had, stop.now));
  }
  const stop = follow(link, told, { events: ["cron"], everyMs: READ_MS }, read);
  return stop;
}

/** When a job is due, in words. */
function when({ kind, everyMs, at, expr, tz }) {
  if (kind === "every") return `every ${span(everyMs)}`;
  return kind === "at" ? `at ${new Date(at).toLocaleString()}` : [expr, tz].filter(Boolean).join(", ");
}

function drawJob(link, job, had, read) {
  const card = had ?? makeJob(link, job, read);
  const [title, facts, does, trouble] = card.children;
  title.textContent = job.displayName ?? job.name;
  const { runningAtMs, lastRunStatus, lastRunAtMs, lastError } = job.state;
  const next = job.enabled ? `next ${job.nextRunAtMs ? ago(job.nextRunAtMs) : "never"}` : "off";
  const last = lastRunStatus ? `last ${lastRunStatus}, ${ago(lastRunAtMs)}` : "has not run yet";
  facts.className = lastError ? "warn" : job.enabled ? "good" : "faint";
  facts.textContent = [when(job.schedule), next, runningAtMs ? "running" : last].join(" · ");
  does.textContent = job.payload.message ?? job.payload.text ?? "";
  trouble.textContent = lastError ?? "";
  trouble.hidden = !lastError;
  for (const button of card.querySelectorAll("[data-when]")) button.hidden = (button.dataset.when === "on") !== job.enabled;
  return card;
}

function makeJob(link, { id, name }, read) {
  const change = (method, params, done) => async () => {
    const { ran, reason } = await link.request(method, { id, ...params });
    toast(ran === false ? `${name}: ${reason}.` : `${name} ${done}.`);
    await read();
  };
  const runs = h("ul", { "aria-label": `What became of ${name}` });
  const acts = link.may("operator.admin") ? [
    action("Run now", change("cron.run", { mode: "force" }, "is on its way")),
    action("Turn on", change("cron.update", { patch: { enabled: true } }, "is on"), { "data-when": "off" }),
    action("Turn off", change("cron.update", { patch: { enabled: false } }, "is off"), { "data-when": "on" }),
  ] : [];
  return h("section", { class: "card", "data-job": id }, h("h3", {}), h("p", {}), h("p", { class: "wraps" }), h("p", { class: "bad wraps" }),
    h("div", { class: "row" }, acts, action("History", () => history(link, id, runs))), runs);
}

/** Shows what became of a job, or puts that away again. */
async function history(link, id, list) {
  if (list.children.length) return list.replaceChildren();
  const { entries } = await link.request("cron.runs", { id, limit: RUNS });
  const row = (entry) => {
    const text = `${new Date(entry.dueAtMs).toLocaleString()}: ${entry.error ?? entry.summary ?? entry.status}`;
    return h("li", { class: entry.status === "ok" ? "good" : "warn" }, text);
  };
  list.replaceChildren(...(entries.length ? entries.map(row) : [h("li", { class: "faint" }, "Nothing yet.")]));
}
