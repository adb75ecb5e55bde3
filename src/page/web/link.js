// The connection to the gateway: one WebSocket, kept up. Whoever shows something hears `up` and reads it anew then;
// events are not repeated.
import { deviceToken, identity, keepToken, proof } from "./identity.js";

const CLIENT = { id: "webchat-ui", displayName: "Crabtree page", version: "1", platform: "web", mode: "webchat" };
const SCOPES = ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.questions", "operator.pairing"];
const CAPS = ["approvals", "tool-events"];
/** First and longest wait before it connects again, ms. */
const BACKOFF = [250, 8_000];
/** How long a request may take, ms; waiting methods say more. */
const PATIENCE = 30_000;
/** While it waits to be let in, it asks this often, ms. */
const ASK_AGAIN = 3_000;

/** What the gateway refused. */
export class Refused extends Error {
  constructor(error) {
    super(error.message);
    Object.assign(this, { code: error.code, details: error.details ?? {}, retryable: error.retryable === true });
  }
}

/**
 * Tells `up` (the hello), `down` (why), `login` (why a secret is needed, or null) and `event:<name>` with its payload,
 * each as `detail`.
 */
export class Link extends EventTarget {
  #socket = null;
  #waiting = new Map();
  #next = 1;
  #tries = 0;
  #heardAt = 0;
  #secret = null;
  #again = 0;
  #wait = null;
  #ended = false;
  hello = null;

  constructor() {
    super();
    addEventListener("online", () => this.#soon(0));
    document.addEventListener("visibilitychange", () => document.hidden || this.#look());
    setInterval(() => this.#look(), 5_000);
  }

  /** Connects; with a secret if one was typed in. */
  start(secret = null) {
    this.#secret = secret;
    this.#ended = false;
    this.#open();
  }

  on(event, hear) {
    const listener = (told) => hear(told.detail);
    this.addEventListener(event, listener);
    return () => this.removeEventListener(event, listener);
  }

  has(method) {
    return this.hello?.features.methods.includes(method) ?? false;
  }

  may(scope) {
    const scopes = this.hello?.auth.scopes ?? [];
    return scopes.includes(scope) || scopes.includes("operator.admin");
  }

  /** Asks the gateway; fails with `Refused`, or when the connection is lost. */
  request(method, params = {}, patience = PATIENCE) {
    if (!this.hello && method !== "connect") return Promise.reject(new Error("not connected"));
    return new Promise((done, failed) => {
      const id = String(this.#next++);
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        failed(new Error(`no answer to ${method} within ${patience / 1000} s`));
      }, patience);
      this.#waiting.set(id, { done, failed, timer });
      this.#socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
  }

  #open() {
    clearTimeout(this.#again);
    this.#socket?.close();
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`);
    this.#socket = socket;
    this.#heardAt = Date.now();
    socket.onmessage = (message) => socket === this.#socket && this.#hear(JSON.parse(message.data));
    socket.onclose = (close) => socket === this.#socket && this.#lost(close.reason);
  }

  #hear(frame) {
    this.#heardAt = Date.now();
    if (frame.type === "event" && frame.event === "connect.challenge") {
      this.#connect(frame.payload).catch((error) => this.#tell("login", error.message));
    } else if (frame.type === "event") {
      this.#tell(`event:${frame.event}`, frame.payload);
    } else if (frame.type === "res") {
      const waiting = this.#waiting.get(frame.id);
      if (!waiting) return;
      this.#waiting.delete(frame.id);
      clearTimeout(waiting.timer);
      if (frame.ok) waiting.done(frame.payload);
      else waiting.failed(new Refused(frame.error));
    }
  }

  async #connect(challenge) {
    const [device, token] = [await identity(), await deviceToken()];
    const own = this.#secret === null && token;
    const auth = own ? { deviceToken: token } : this.#secret ? { token: this.#secret, password: this.#secret } : undefined;
    const said = { client: CLIENT, role: "operator", scopes: SCOPES };
    const signed = await proof(device, { ...said, token: auth?.token ?? auth?.deviceToken, challenge });
    const range = { minProtocol: 4, maxProtocol: 4 };
    try {
      const hello = await this.request("connect", { ...range, ...said, caps: CAPS, device: signed, auth });
      if (hello.auth.deviceToken) await keepToken(hello.auth.deviceToken);
      Object.assign(this, { hello });
      this.#tries = 0;
      this.#secret = null;
      this.#tell("up", hello);
    } catch (error) {
      await this.#refused(error, own);
    }
  }

  async #refused(error, own) {
    const { code, requestId } = error.details ?? {};
    if (code === "PAIRING_REQUIRED") {
      this.#wait = ASK_AGAIN;
      this.#tell("down", { why: `This browser waits for approval: crabtree devices approve ${requestId ?? ""}` });
    } else if (error instanceof Refused && !error.retryable) {
      this.#ended = true;
      if (own) await keepToken(null);
      this.#secret = null;
      this.#tell("login", own || code === "AUTH_TOKEN_MISSING" ? null : error.message);
    }
  }

  #lost(reason) {
    const was = this.hello;
    this.hello = null;
    for (const { failed, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      failed(new Error("the connection was lost"));
    }
    this.#waiting.clear();
    if (this.#ended) return;
    if (this.#wait === null && (was || this.#tries > 0)) {
      this.#tell("down", { why: reason ? `Reconnecting: ${reason}` : "Reconnecting…" });
    }
    const wait = this.#wait ?? Math.min(BACKOFF[0] * 2 ** this.#tries++, BACKOFF[1]) * (0.8 + 0.4 * Math.random());
    this.#wait = null;
    this.#soon(wait);
  }

  #soon(ms) {
    if (this.hello || this.#ended) return;
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.#open(), ms);
  }

  /** A gateway that says nothing for two ticks is gone, whatever the socket says. */
  #look() {
    const silence = 2 * (this.hello?.policy.tickIntervalMs ?? 30_000);
    if (this.hello && Date.now() - this.#heardAt > silence) {
      const silent = this.#socket;
      this.#socket = null;
      silent.close();
      this.#lost("the gateway was silent");
    }
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Bursts of events are read for once, ms. */
const SETTLE = 150;

/**
 * Reads now, with each new connection, at each of these events, and every so often: never twice at a time. What went
 * wrong is said in `told`. Returns what stops it.
 */
export function follow(link, told, { events = [], everyMs = 0 }, read) {
  let timer = 0;
  let [reading, again, ended] = [false, false, false];
  async function run() {
    clearTimeout(timer);
    if (ended) return;
    if (reading) return void (again = true);
    [reading, again] = [true, false];
    try {
      await read();
    } catch (error) {
      told.textContent = `Not up to date: ${error.message}`;
      told.className = "warn";
    }
    reading = false;
    if (again) soon(SETTLE);
    else if (everyMs) soon(everyMs);
  }
  function soon(ms) {
    clearTimeout(timer);
    if (!ended) timer = setTimeout(run, ms);
  }
  const changed = () => (reading ? (again = true) : soon(SETTLE));
  const stops = [link.on("up", run), ...events.map((event) => link.on(`event:${event}`, changed))];
  run();
  const stop = () => {
    ended = true;
    clearTimeout(timer);
    stops.forEach((end) => end());
  };
  return Object.assign(stop, { now: run });
}
