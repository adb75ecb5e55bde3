// What waits for a person: commands and tools that want to be allowed, and questions. Shown on a page of its own, and
// in the chat of the session that waits.
import { action, align, ago, h } from "./dom.js";

const EVENTS = ["exec.approval", "plugin.approval"].flatMap((kind) => [`event:${kind}.requested`, `event:${kind}.resolved`])
  .concat("event:question.requested", "event:question.resolved");
const LISTS = ["exec.approval", "plugin.approval", "question"];
const WORDS = { "allow-once": "Allow once", "allow-always": "Always allow", deny: "Deny" };

/** All that waits, whoever shows it. */
export const pending = {
  items: [],
  watchers: new Set(),
  stops: [],

  count() {
    return this.items.length;
  },

  /** Keeps up with the gateway from now on; called anew for each connection. */
  follow(link, redraw) {
    this.stops.forEach((stop) => stop());
    this.watchers.add(redraw);
    this.stops = EVENTS.map((event) => link.on(event, () => this.read(link)));
    this.read(link);
  },

  async read(link) {
    const lists = LISTS.filter((kind) => link.has(`${kind}.list`)).map(async (kind) => {
      const listed = await link.request(`${kind}.list`);
      return (listed.questions ?? listed).map((item) => ({ ...item, kind }));
    });
    const known = await Promise.allSettled(lists);
    this.items = known.flatMap((list) => list.value ?? []).sort((a, b) => a.createdAtMs - b.createdAtMs);
    this.watchers.forEach((redraw) => redraw());
  },

  /** Shows what waits, or what waits in one session, in `parent`; returns what stops it. */
  show(parent, link, isShown = () => true) {
    const redraw = () => align(parent, this.items.filter(isShown), (item) => item.id, (item, had) => had ?? card(link, item));
    this.watchers.add(redraw);
    redraw();
    return () => this.watchers.delete(redraw);
  },
};

/** The session that waits. */
export const sessionOf = (item) => item.sessionKey ?? item.request?.sessionKey ?? null;

export function draw(view, link) {
  const cards = h("div", {});
  const none = h("p", { class: "faint" }, "Nothing waits for you.");
  const tell = () => (none.hidden = pending.count() > 0);
  view.append(h("h1", {}, "Approvals"), none, cards);
  const stop = pending.show(cards, link);
  pending.watchers.add(tell);
  tell();
  return () => {
    stop();
    pending.watchers.delete(tell);
  };
}

function card(link, item) {
  const session = sessionOf(item);
  const until = h("p", { class: "faint" }, session && [h("a", { href: `#/chat/${encodeURIComponent(session)}` }, session), " · "],
    `asked ${ago(item.createdAtMs)}, waits until ${new Date(item.expiresAtMs).toLocaleTimeString()}`);
  const body = item.kind === "question" ? ask(link, item) : decide(link, item);
  return h("section", { class: "card approval", role: "group", "aria-label": "Waits for you" }, body, until);
}

function decide(link, { kind, id, request }) {
  const title = kind === "exec.approval" ? `Run a command on ${request.nodeId ?? "this machine"}?` : request.title;
  const answer = (decision) => action(WORDS[decision] ?? decision, () => link.request(`${kind}.resolve`, { id, decision }),
    { class: decision === "allow-once" ? "main" : null });
  const decisions = request.allowedDecisions ?? ["allow-once", "deny"];
  return [
    h("h3", {}, title),
    request.command && h("pre", { class: "wraps" }, request.command),
    (request.description ?? request.detail) && h("p", { class: "wraps" }, request.description ?? request.detail),
    request.cwd && h("p", { class: "faint" }, `in ${request.cwd}`),
    request.warningText && h("p", { class: "warn" }, request.warningText),
    h("div", { class: "row" }, decisions.map(answer)),
  ];
}

function ask(link, { id, questions }) {
  const fields = questions.map((question) => [question.questionId, field(question)]);
  const answers = () => Object.fromEntries(fields.map(([name, { chosen }]) => [name, chosen()]));
  return [fields.map(([, { element }]) => element),
    h("div", { class: "row" },
      action("Answer", () => link.request("question.resolve", { id, answers: { answers: answers() } }), { class: "main" }))];
}

/** The choices of a question, and a line to write in where one may. */
function field({ questionId, header, question, options, multiSelect, isOther, isSecret }) {
  const choices = options.map(({ label, description }) => {
    const input = h("input", { type: multiSelect ? "checkbox" : "radio", name: questionId, value: label });
    return { input, element: h("p", {}, h("label", {}, input, ` ${label}`, description && h("span", { class: "faint" }, ` ${description}`))) };
  });
  const own = isOther || !options.length ? h("input", { type: isSecret ? "password" : "text", "aria-label": question }) : null;
  return {
    element: h("fieldset", {}, h("legend", {}, header ? `${header}: ${question}` : question), choices.map(({ element }) => element), own),
    chosen: () => [...choices.filter(({ input }) => input.checked).map(({ input }) => input.value), own?.value.trim()].filter(Boolean),
  };
}
