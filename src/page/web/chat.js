// One conversation. The history the gateway keeps is the truth; what streams in is shown until that has it.
import { action, align, h } from "./dom.js";
import { follow } from "./link.js";
import { markdown } from "./markdown.js";
import { pending, sessionOf } from "./approvals.js";

const PAGE = 60;
/** The gateway tells at most so many rows at once. */
const MOST = 1_000;
/** How near to its end a conversation is scrolled along, px. */
const NEAR = 80;
const EVENTS = ["session.message", "sessions.changed"];

export function draw(view, link, argument) {
  return new Chat(view, link, argument || "main").begin();
}

class Chat {
  #link;
  #key;
  #limit = PAGE;
  #rows = [];
  #queued = [];
  /** What was typed here and is not in the history yet, by run. */
  #sent = new Map();
  /** What is being answered, by run: `{ text, doing }`. */
  #live = new Map();

  constructor(view, link, key) {
    this.#link = link;
    this.#key = key;
    this.told = h("p", { class: "faint", role: "status" });
    this.title = h("h1", {}, key);
    this.earlier = action("Earlier messages", () => this.#more(), { class: "quiet", hidden: true });
    this.said = h("div", { class: "said", role: "log", tabindex: "0", "aria-label": "Conversation" });
    this.cards = h("div", {});
    this.stop = action("Stop", () => link.request("chat.abort", { sessionKey: this.#key }), { hidden: true });
    view.append(h("div", { class: "chat" }, h("div", { class: "row" }, this.title, this.earlier), this.said,
      h("div", {}, this.cards, this.#composer(), this.told)));
  }

  begin() {
    const link = this.#link;
    const reading = follow(link, this.told, { events: [] }, () => this.#read());
    this.read = reading.now;
    const ours = (payload) => payload.sessionKey === this.#key || payload.key === this.#key;
    const watch = () => link.request("sessions.messages.subscribe", { key: this.#key }).catch(() => {});
    const stops = [
      reading,
      link.on("up", watch),
      link.on("event:chat", (payload) => ours(payload) && this.#hear(payload)),
      link.on("event:agent", (payload) => ours(payload) && this.#work(payload)),
      ...EVENTS.map((event) => link.on(`event:${event}`, (payload) => ours(payload) && this.read())),
      pending.show(this.cards, link, (item) => sessionOf(item) === this.#key),
      () => link.request("sessions.messages.unsubscribe", { key: this.#key }).catch(() => {}),
    ];
    watch();
    return () => stops.forEach((stop) => stop());
  }

  #composer() {
    const commands = h("div", { class: "commands" });
    this.text = h("textarea", {
      "aria-label": "Message", placeholder: "Message, or / for commands", rows: 2,
      oninput: () => this.#suggest(commands), onkeydown: (key) => {
        if (key.key !== "Enter" || key.shiftKey || key.isComposing) return;
        key.preventDefault();
        form.requestSubmit();
      },
    });
    const form = h("form", { class: "composer" }, commands, this.text,
      h("div", { class: "row" }, h("button", { class: "main" }, "Send"), this.stop));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
      commands.replaceChildren();
    });
    return form;
  }

  async #send() {
    const message = this.text.value.trim();
    if (!message) return;
    const idempotencyKey = crypto.randomUUID();
    this.text.value = "";
    this.#sent.set(idempotencyKey, message);
    this.#show();
    this.said.scrollTop = this.said.scrollHeight;
    try {
      await this.#link.request("chat.send", { sessionKey: this.#key, message, deliver: false, idempotencyKey });
    } catch (error) {
      // It may have been taken although the answer was lost: the history knows. The words are not lost either way.
      this.#sent.delete(idempotencyKey);
      this.text.value ||= message;
      this.told.className = "bad";
      this.told.textContent = error.message;
    }
    this.read();
  }

  async #suggest(place) {
    const typed = /^\/(\S*)$/.exec(this.text.value)?.[1];
    if (typed === undefined || !this.#link.has("commands.list")) return place.replaceChildren();
    this.commands ??= (await this.#link.request("commands.list")).commands;
    const fitting = this.commands.filter(({ name }) => name.startsWith(typed)).slice(0, 12);
    place.replaceChildren(...fitting.map(({ name, description }) =>
      h("button", { type: "button", title: description, onclick: () => {
        this.text.value = `/${name} `;
        place.replaceChildren();
        this.text.focus();
      } }, `/${name}`)));
  }

  async #more() {
    this.#limit = Math.min(this.#limit + PAGE, MOST);
    await this.read();
  }

  async #read() {
    const page = await this.#link.request("chat.history", { sessionKey: this.#key, limit: this.#limit });
    if (page.sessionKey && page.sessionKey !== this.#key) {
      // Its whole name: events bear that one.
      this.#key = page.sessionKey;
      this.#link.request("sessions.messages.subscribe", { key: this.#key }).catch(() => {});
    }
    this.title.textContent = page.sessionInfo?.derivedTitle ?? page.sessionInfo?.displayName ?? this.#key;
    this.#rows = page.messages;
    this.#queued = page.pendingInputs?.items ?? [];
    this.earlier.hidden = !page.hasMore || this.#limit >= MOST;
    const known = new Set([...this.#rows, ...this.#queued.map(({ message }) => message)].map((row) => row.idempotencyKey?.replace(/:user$/, "")));
    this.#queued.forEach(({ runId }) => known.add(runId));
    for (const run of this.#sent.keys()) if (known.has(run)) this.#sent.delete(run);
    const run = page.inFlightRun;
    for (const id of this.#live.keys()) if (id !== run?.runId) this.#live.delete(id);
    if (run) this.#live.set(run.runId, { doing: "", text: run.text ?? "", ...this.#live.get(run.runId) });
    this.told.className = "faint";
    this.told.textContent = "";
    this.#show();
  }

  #hear({ runId, state, phase, message }) {
    if (state === "status") this.#at(runId, { doing: phase.replaceAll("_", " ") });
    else if (state === "delta") this.#at(runId, { text: words(message), doing: "" });
    else this.read();
  }

  #work({ runId, stream, data }) {
    if (stream === "tool") this.#at(runId, { doing: data.phase === "result" ? "" : `using ${data.name}` });
    if (stream === "thinking") this.#at(runId, { doing: `thinking: ${data.text.slice(-200)}` });
    if (stream === "run_status" && data.phase === "retrying") this.#at(runId, { doing: `trying again (${data.reason})` });
  }

  #at(runId, more) {
    this.#live.set(runId, { text: "", doing: "", ...this.#live.get(runId), ...more });
    this.#show();
  }

  #show() {
    const near = this.said.scrollHeight - this.said.scrollTop - this.said.clientHeight < NEAR;
    const items = [
      ...this.#rows.map((row) => ({ key: row.__openclaw?.id ?? row.timestamp, row })),
      ...this.#queued.map(({ id, message }) => ({ key: id, row: message, waits: true })),
      ...[...this.#sent].map(([key, content]) => ({ key, row: { role: "user", content }, waits: true })),
      ...[...this.#live].map(([key, live]) => ({ key: `live:${key}`, live })),
    ];
    align(this.said, items, (item) => item.key, drawItem);
    this.stop.hidden = !this.#live.size;
    if (near) this.said.scrollTop = this.said.scrollHeight;
  }
}

/** The text of a message. */
function words({ content, text }) {
  if (typeof content === "string") return content;
  return (content ?? []).filter((block) => block.type === "text").map((block) => block.text).join("\n\n") || (text ?? "");
}

function drawItem({ row, live, waits }, had) {
  if (live) {
    const element = had ?? h("div", { class: "assistant", "aria-busy": "true" }, h("div", {}), h("p", { class: "faint busy" }));
    const [text, doing] = element.children;
    text.replaceChildren(...markdown(live.text));
    doing.textContent = live.doing || (live.text ? "" : "…");
    return element;
  }
  // A row never changes, but for what waits and is taken.
  if (had && had.dataset.waits === String(waits ?? false)) return had;
  const element = drawRow(row);
  element.dataset.waits = waits ?? false;
  if (waits) element.append(h("div", { class: "faint" }, "waits"));
  return element;
}

function drawRow(row) {
  if (row.role === "user") return h("div", { class: "user" }, words(row));
  if (row.role === "toolResult") return folded(`result of ${row.toolName ?? "a tool"}`, words(row), row.isError);
  if (row.role !== "assistant") return h("div", { class: "note" }, words(row) || row.role);
  const calls = (Array.isArray(row.content) ? row.content : []).flatMap((block) => {
    if (block.type === "thinking") return [folded("thought", block.thinking)];
    if (block.type === "toolCall") return [folded(`uses ${block.name}`, JSON.stringify(block.arguments, null, 2))];
    return [];
  });
  return h("div", { class: "assistant" }, calls, markdown(words(row)));
}

function folded(title, text, bad) {
  return h("details", { class: bad ? "bad" : null }, h("summary", {}, title), h("pre", { class: "wraps" }, text));
}
