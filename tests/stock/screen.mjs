// A screen of tmux with one program on it: typed into and read as a person does.
import { execFileSync, spawn } from "node:child_process";
import { sleep, until } from "./checks.mjs";
import { track } from "./gateway.mjs";

const UP_S = 20;
/** What a terminal needs between the text and the key that sends it, so that it is no paste. */
const TYPING_MS = 300;

export class Screen {
  /** Opens a screen with one program on it. The server is a child like any other: no daemon stays behind. */
  static async open({ work, home, env }, program, { columns, lines }) {
    const screen = new Screen(`${home}/tmux`, { ...env, TERM: "xterm-256color" });
    screen.server = track(spawn("tmux", screen.args("-D"), { env: screen.env, stdio: "ignore" }), work);
    screen.ended = new Promise((done) => screen.server.once("close", done));
    screen.server.once("error", (error) => (screen.broken = error));
    await until("tmux is up", UP_S, () => {
      if (screen.broken) throw new Error(`tmux cannot be run: ${screen.broken.message}`);
      return screen.try("new-session", "-d", "-x", String(columns), "-y", String(lines), ...program);
    });
    return screen;
  }

  constructor(socket, env) {
    Object.assign(this, { socket, env });
  }

  args(...args) {
    return ["-S", this.socket, "-f", "/dev/null", ...args];
  }

  do(...args) {
    return execFileSync("tmux", this.args(...args), { env: this.env, timeout: 10_000, stdio: "pipe" }).toString();
  }

  try(...args) {
    try {
      this.do(...args);
      return true;
    } catch {
      return false;
    }
  }

  text() {
    return this.do("capture-pane", "-p").replace(/\s+\n/g, "\n").trim();
  }

  /** Waits until it shows all of this, wherever its lines are broken, and returns what it shows in one line. */
  async shows(seconds, ...wanted) {
    let text = "";
    const line = () => text.replace(/\s+/g, " ");
    const all = () => wanted.every((part) => (part instanceof RegExp ? part.test(line()) : line().includes(part)));
    try {
      await until("", seconds, () => ((text = this.text()), all()));
    } catch {
      throw new Error(`not on the screen within ${seconds} s: ${wanted.join(" and ")}; it shows:\n${text}`);
    }
    return line();
  }

  async say(text) {
    this.do("send-keys", "-l", text);
    await sleep(TYPING_MS);
    this.do("send-keys", "Enter");
  }

  async close() {
    this.try("kill-server");
    await this.ended;
  }
}
