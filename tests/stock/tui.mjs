// The stock terminal UI, on a screen of tmux: typed into and read as a person does.
import { execFileSync, spawn } from "node:child_process";
import { check, expect, sleep, until } from "./checks.mjs";
import { Cli, START_S } from "./cli.mjs";
import { Gateway, track } from "./gateway.mjs";

/** Long after the last piece of a turn. */
const TURN_S = 20;
/** What a terminal needs between the text and the key that sends it, so that it is no paste. */
const TYPING_MS = 300;
/** Some seconds of an answer, at 20 ms a word. */
const LONG = "so it goes ".repeat(60);

class Screen {
  /** Opens a screen with one program on it. The server is a child like any other: no daemon stays behind. */
  static async open({ work, home, env }, program) {
    const screen = new Screen(`${home}/tmux`, { ...env, TERM: "xterm-256color" });
    screen.server = track(spawn("tmux", screen.args("-D"), { env: screen.env, stdio: "ignore" }), work);
    screen.ended = new Promise((done) => screen.server.once("close", done));
    screen.server.once("error", (error) => (screen.broken = error));
    await until("tmux is up", TURN_S, () => {
      if (screen.broken) throw new Error(`tmux cannot be run: ${screen.broken.message}`);
      return screen.try("new-session", "-d", "-x", "110", "-y", "200", ...program);
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

export async function checkTui(env) {
  const gateway = await Gateway.start(env, "tui-gateway");
  const cli = new Cli(env, "tui", { url: gateway.url, token: gateway.token });
  const one = (name, body) => check(`tui: ${name}`, body, () => gateway.log());
  const screen = await one("it starts on a screen", () =>
    Screen.open(cli, cli.program(["tui", "--session", "main"])),
  );
  if (screen) {
    await use(screen, cli, one);
    await screen.close();
  }
  await one("the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  });
}

async function use(screen, cli, one) {
  await one('it reaches "connected | idle", and complains about nothing', async () => {
    const text = await screen.shows(START_S, "connected | idle", "session agent:main:main", "offline");
    expect(!/fail|error|unknown|unavailable|missing/i.test(text), "no complaint", text);
  });
  await one("the answer to a typed message streams in", async () => {
    await screen.say(`${LONG}and that was it`);
    const part = await screen.shows(TURN_S, "streaming", /heard you \(turn 1\): so it goes/);
    expect(part.split("and that was it").length === 2, "a part of the answer, while it streams", part);
    await screen.shows(TURN_S, /\(turn 1\): so it goes.*and that was it /, "connected | idle");
    const rows = await cli.history("main");
    expect(rows.length === 2 && rows[1].text.endsWith("and that was it"), "both rows, complete", rows);
  });
  await one("Esc aborts a long answer", async () => {
    await screen.say(LONG.repeat(10));
    await screen.shows(TURN_S, "streaming", /heard you \(turn 2\): so it goes/);
    screen.do("send-keys", "Escape");
    await screen.shows(TURN_S, "connected | aborted");
    const { sessions } = await cli.call("sessions.list");
    expect(sessions[0].status === "killed" && sessions[0].hasActiveRun === false, "the turn was killed", sessions[0]);
  });
  await one("/status is answered", async () => {
    await screen.say("/status");
    await screen.shows(TURN_S, /Crabtree \d+\.\d+/, "Model: crabtree/offline", "agent:main:main (idle");
  });
  await one("the next message is answered as ever", async () => {
    await screen.say("hello again");
    await screen.shows(TURN_S, "(turn 3): hello again", "connected | idle");
  });
}
