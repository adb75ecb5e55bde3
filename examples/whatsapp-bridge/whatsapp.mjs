// One account of WhatsApp: its connection, what comes in and what goes out.
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Trouble } from "./driver.mjs";
import { MAX_FILE, formatted, idOf, jidOf, media, mentioned, understood } from "./messages.mjs";
import { Spool } from "./spool.mjs";

// Messages that are remembered, so that they can be quoted, reacted to and sent again to who could not read them.
const MAX_REMEMBERED = 1000;
// What came while nobody was connected is handed in up to this age.
const MAX_AGE_MS = 24 * 3600 * 1000;
// Messages that the gateway has not acknowledged; it hears nothing from who has many more.
const MAX_UNACKNOWLEDGED = 32;
const FIRST_PAUSE_MS = 2000;
const LAST_PAUSE_MS = 60_000;
const DOWNLOAD_MS = 60_000;
const LOGIN = "log in again: resume the account and scan the new code";

const quiet = { level: "silent", child: () => quiet };
for (const level of ["trace", "debug", "info", "warn", "error", "fatal"]) quiet[level] = () => {};

export class WhatsApp {
  #baileys;
  #driver;
  #auth;
  #receipts;
  #spool;
  #socket = null;
  #open = false;
  #pause = FIRST_PAUSE_MS;
  #remembered = new Map();
  #unread = new Map();
  #room = () => {};
  #line = Promise.resolve();

  constructor(baileys, { driver, state, receipts }) {
    this.#baileys = baileys;
    this.#driver = driver;
    this.#receipts = receipts;
    this.#auth = join(state, "auth");
    this.#spool = new Spool(state, baileys.BufferJSON);
  }

  // The gateway listens.
  async connected() {
    await this.#connect();
    for (const message of this.#spool.left()) this.#queue(message);
  }

  async #connect() {
    const { default: makeWASocket, useMultiFileAuthState } = this.#baileys;
    mkdirSync(this.#auth, { recursive: true, mode: 0o700 });
    this.#restore();
    const { state, saveCreds } = await useMultiFileAuthState(this.#auth);
    const socket = makeWASocket({
      auth: state,
      logger: quiet,
      browser: ["Crabtree", "Chrome", "1.0.0"],
      markOnlineOnConnect: false,
      syncFullHistory: false,
      shouldSyncHistoryMessage: () => false,
      getMessage: async ({ id }) => this.#remembered.get(id)?.message,
    });
    this.#socket = socket;
    socket.ev.on("creds.update", async () => {
      await saveCreds();
      this.#backUp();
    });
    socket.ev.on("connection.update", (update) => this.#stand(socket, update));
    socket.ev.on("messages.upsert", ({ messages, type }) => {
      const since = type === "notify" ? 0 : Date.now() - MAX_AGE_MS;
      for (const message of messages) {
        if (Number(message.messageTimestamp) * 1000 >= since) this.#take(message);
      }
    });
    socket.ev.on("messages.reaction", (all) => all.forEach((one) => this.#reacted(one)));
  }

  // Credentials that were half written would be a lost login.
  #restore() {
    const file = join(this.#auth, "creds.json");
    try {
      JSON.parse(readFileSync(file, "utf8"));
    } catch {
      if (existsSync(`${file}.bak`)) copyFileSync(`${file}.bak`, file);
    }
  }

  #backUp() {
    const file = join(this.#auth, "creds.json");
    if (!existsSync(file)) return;
    copyFileSync(file, `${file}.new`);
    renameSync(`${file}.new`, `${file}.bak`);
  }

  #stand(socket, { qr, connection, lastDisconnect }) {
    if (socket !== this.#socket) return;
    if (qr) this.#driver.say("channel_status", { state: "login", qr });
    if (connection === "open") {
      this.#open = true;
      this.#pause = FIRST_PAUSE_MS;
      const { id, name } = socket.user;
      this.#driver.say("channel_status", { state: "connected", me: { id: idOf(id), ...(name && { name }) } });
    }
    if (connection === "close") this.#closed(lastDisconnect?.error);
  }

  #closed(error) {
    this.#open = false;
    this.#socket = null;
    const { DisconnectReason: why } = this.#baileys;
    const code = error?.output?.statusCode;
    const failed = (reason) => this.#driver.say("channel_status", { state: "failed", reason });
    switch (code) {
      case why.loggedOut:
        rmSync(this.#auth, { recursive: true, force: true });
        return failed(`the phone has ended this login; ${LOGIN}`);
      case why.connectionReplaced:
        return failed("another program uses this login; end it, then resume the account");
      case why.forbidden:
        return failed("WhatsApp does not let this number in");
      case why.multideviceMismatch:
        return failed(`the phone does not allow other devices; ${LOGIN}`);
      case why.restartRequired:
        return this.#connect();
      default: {
        const reason = `${code ?? ""} ${error?.message ?? "connection lost"}`.trim().slice(0, 200);
        this.#driver.say("channel_status", { state: "disconnected", reason });
        setTimeout(() => this.#connect(), this.#pause * (0.8 + 0.4 * Math.random()));
        this.#pause = Math.min(2 * this.#pause, LAST_PAUSE_MS);
        return undefined;
      }
    }
  }

  #me() {
    const { id, lid } = this.#socket?.user ?? {};
    return [id, lid].filter(Boolean).map(idOf);
  }

  // WhatsApp believes that it was received: it is kept until the gateway has it.
  #take(message) {
    if (!understood(this.#baileys, message, this.#me())) return;
    this.#spool.keep(message);
    this.#queue(message);
  }

  // One after the other, so that a file that takes its time does not let others pass.
  #queue(message) {
    this.#line = this.#line.then(() => this.#handIn(message)).catch((error) => {
      process.stderr.write(`a message was not handed in: ${error.message}\n`);
    });
  }

  async #handIn(raw) {
    const { message, media: attached } = understood(this.#baileys, raw, this.#me()) ?? {};
    if (!message) return;
    const id = raw.key.id;
    const file = attached && (await this.#download(raw, attached));
    if (typeof file === "string") message.content = `${message.content}\n${file}`.trim();
    while (this.#unread.size >= MAX_UNACKNOWLEDGED) await new Promise((done) => (this.#room = done));
    this.#remember(raw);
    this.#unread.set(id, raw.key);
    this.#driver.handIn(id, message, file instanceof Object ? [file] : []);
  }

  // The file, or what to write in its place.
  async #download(raw, { kind, part }) {
    const size = Number(part.fileLength ?? 0);
    if (size > MAX_FILE) return `[${kind} of ${Math.ceil(size / 1048576)} MB, which is too large to be loaded]`;
    const options = { logger: quiet, reuploadRequest: (old) => this.#socket.updateMediaMessage(old) };
    try {
      const stream = await this.#baileys.downloadMediaMessage(raw, "stream", {}, options);
      const late = setTimeout(() => stream.destroy(new Error("it took too long")), DOWNLOAD_MS);
      const pieces = [];
      let held = 0;
      for await (const piece of stream) {
        held += piece.length;
        if (held > MAX_FILE) throw new Error("it is larger than it said");
        pieces.push(piece);
      }
      clearTimeout(late);
      const mimeType = part.mimetype ?? "application/octet-stream";
      return { bytes: Buffer.concat(pieces), mimeType, fileName: part.fileName?.slice(0, 200) };
    } catch {
      return `[${kind} that could not be loaded]`;
    }
  }

  #remember({ key, message }) {
    this.#remembered.set(key.id, { key, message });
    if (this.#remembered.size > MAX_REMEMBERED) this.#remembered.delete(this.#remembered.keys().next().value);
  }

  #reacted({ key, reaction }) {
    if (reaction.key?.fromMe || !key.remoteJid) return;
    const group = key.remoteJid.endsWith("@g.us");
    const who = group ? reaction.key?.participant : key.remoteJid;
    if (!who) return;
    this.#driver.say("reaction", {
      channel: { kind: group ? "group" : "direct", id: idOf(key.remoteJid) },
      sender: { id: idOf(who) },
      message_id: key.id,
      emoji: reaction.text ?? "",
    });
  }

  // The gateway has it for good: the sender may see that it was read.
  acknowledged(id) {
    const key = this.#unread.get(id);
    this.refused(id);
    if (key && this.#receipts && this.#open) this.#socket.readMessages([key]).catch(() => {});
  }

  // It would not take it another time either.
  refused(id) {
    this.#spool.forget(id);
    if (this.#unread.delete(id)) this.#room();
  }

  async send({ channel, text, files, reply_to, edits }) {
    this.#ready();
    const jid = jidOf(channel.id);
    const options = { quoted: this.#remembered.get(reply_to) };
    const contents = [];
    if (text) {
      const words = formatted(text);
      const edit = edits && { edit: { remoteJid: jid, fromMe: true, id: edits } };
      contents.push({ text: words, mentions: mentioned(words), linkPreview: null, ...edit });
    }
    for (const file of files) contents.push(media(file));
    if (contents.length === 0) throw new Trouble("refused", "there is nothing in it");
    let first;
    for (const content of contents) {
      const sent = await this.#deliver(jid, content, options, first !== undefined);
      first ??= edits ?? sent.key.id;
    }
    return first;
  }

  async react({ channel, message_id, emoji }) {
    this.#ready();
    const key = this.#remembered.get(message_id)?.key;
    if (!key) throw new Trouble("refused", "that message is not known any more");
    await this.#deliver(jidOf(channel.id), { react: { text: emoji, key } }, {}, false);
  }

  typing({ id }) {
    if (this.#open) this.#socket.sendPresenceUpdate("composing", jidOf(id)).catch(() => {});
  }

  #ready() {
    if (!this.#open) throw new Trouble("later", "WhatsApp is not connected");
  }

  async #deliver(jid, content, options, begun) {
    try {
      const sent = await this.#socket.sendMessage(jid, content, options);
      if (!sent) throw new Error("WhatsApp has not said what became of it");
      this.#remember(sent);
      return sent;
    } catch (error) {
      // Only what WhatsApp itself has turned down was surely not sent.
      const refused = [400, 403, 404, 406].includes(error?.output?.statusCode) && !begun;
      throw new Trouble(refused ? "refused" : "unknown", error.message);
    }
  }
}
