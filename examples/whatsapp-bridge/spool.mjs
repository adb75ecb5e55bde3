// Messages that WhatsApp believes to be received and the gateway has not acknowledged yet.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// More are not kept: they are handed in all the same, and lost only if this process ends before that.
const MAX_KEPT = 1000;

export class Spool {
  #dir;
  #coding;
  #kept = new Set();

  constructor(state, coding) {
    this.#dir = join(state, "inbox");
    this.#coding = coding;
    mkdirSync(this.#dir, { recursive: true });
    for (const name of readdirSync(this.#dir)) this.#kept.add(name);
  }

  keep(message) {
    const name = nameOf(message.key.id);
    if (this.#kept.size >= MAX_KEPT && !this.#kept.has(name)) return;
    const file = join(this.#dir, name);
    writeFileSync(`${file}.new`, JSON.stringify(message, this.#coding.replacer));
    renameSync(`${file}.new`, file);
    this.#kept.add(name);
  }

  forget(id) {
    const name = nameOf(id);
    if (this.#kept.delete(name)) rmSync(join(this.#dir, name), { force: true });
  }

  // What is left of the last run, in the order in which it was written.
  left() {
    const messages = [];
    for (const name of this.#kept) {
      try {
        messages.push(JSON.parse(readFileSync(join(this.#dir, name), "utf8"), this.#coding.reviver));
      } catch {
        // It was not written to its end: WhatsApp still has it.
        this.#kept.delete(name);
        rmSync(join(this.#dir, name), { force: true });
      }
    }
    return messages.sort((a, b) => Number(a.messageTimestamp) - Number(b.messageTimestamp));
  }
}

function nameOf(id) {
  return `${createHash("sha256").update(id).digest("hex").slice(0, 32)}.json`;
}
