// The driver protocol over stdin and stdout, without anything of WhatsApp.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";

const PIECE = 512 * 1024;

export class Driver {
  #hello;
  #streams = new Map();

  constructor(hello) {
    this.#hello = hello;
  }

  // `channel` has connected(), acknowledged(id), refused(id), send(message), react(reaction) and typing(chat).
  start(channel) {
    const lines = createInterface({ input: process.stdin });
    lines.on("line", (line) => this.#hear(JSON.parse(line), channel));
    // The gateway is gone.
    lines.on("close", () => process.exit(0));
    this.say("connect", { protocol: 1, ...this.#hello });
  }

  say(type, payload, id = randomUUID()) {
    process.stdout.write(`${JSON.stringify({ type, id, timestamp: Date.now(), payload })}\n`);
  }

  // A message with its files, which belong directly before it.
  handIn(id, message, files) {
    files.forEach(({ bytes, mimeType, fileName }, n) => {
      for (let at = 0; at === 0 || at < bytes.length; at += PIECE) {
        const content = bytes.subarray(at, at + PIECE).toString("base64");
        const file = { mime_type: mimeType, ...(fileName && { file_name: fileName }) };
        this.say("stream_block", { id, block_id: `file-${n}`, block_type: "file", content, ...file });
      }
    });
    this.say("message_in", message, id);
  }

  #hear({ type, id, payload }, channel) {
    switch (type) {
      case "connected":
        setInterval(() => this.say("heartbeat", {}), payload.heartbeat_ms);
        return channel.connected();
      case "message_ack":
        return channel.acknowledged(payload.id);
      case "stream_block":
        return this.#gather(payload);
      case "stream_end": {
        const { text = "", files = new Map() } = this.#streams.get(payload.id) ?? {};
        this.#streams.delete(payload.id);
        const message = { ...payload, text, files: [...files.values()] };
        return this.#answer(payload.id, () => channel.send(message));
      }
      case "reaction":
        return this.#answer(id, () => channel.react(payload));
      case "presence":
        return channel.typing(payload.channel);
      case "error":
        process.stderr.write(`not taken: ${payload.code} ${payload.message}\n`);
        return payload.id && channel.refused(payload.id);
      default:
        // A gateway may say more than is known here.
        return undefined;
    }
  }

  #gather({ id, block_id, block_type, content, mime_type, file_name }) {
    const stream = this.#streams.get(id) ?? { text: "", files: new Map() };
    this.#streams.set(id, stream);
    if (block_type === "text") {
      stream.text += content;
      return;
    }
    const file = stream.files.get(block_id) ?? { mimeType: mime_type, fileName: file_name, pieces: [] };
    file.pieces.push(Buffer.from(content, "base64"));
    stream.files.set(block_id, file);
  }

  async #answer(id, work) {
    try {
      const sent = await work();
      this.say("message_ack", { id, ...(sent && { platform_id: sent }) });
    } catch (error) {
      const code = error instanceof Trouble ? error.code : "unknown";
      this.say("error", { id, code, message: `${error.message}`.slice(0, 200) });
    }
  }
}

// Why something was not sent: `refused`, `later` or `unknown`.
export class Trouble extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}
