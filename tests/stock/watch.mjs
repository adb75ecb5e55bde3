// Our own `crabtree tree --watch`, on a screen of tmux: read, typed into, through a crash of the gateway, and left.
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { check, expect, until } from "./checks.mjs";
import { Gateway } from "./gateway.mjs";
import { Screen } from "./screen.mjs";

/** Long beyond the slowest reading, also on a loaded machine. */
const SHOWN_S = 20;
const CHANNEL = "gateway/channels/loopback%2Fdefault";

export async function checkWatch(env) {
  const gateway = await Gateway.start(env, "watch-gateway", { channels: { loopback: { port: 0, allowFrom: ["me"] } } });
  const one = (name, body) => check(`watch: ${name}`, body, () => gateway.log());
  const screen = await one("it starts on a screen of 80 columns and 24 lines", () => open(gateway));
  if (screen) {
    await look(screen, one);
    await act(screen, gateway, one);
    await survive(screen, gateway, one);
    await leave(screen, gateway, one);
    await screen.close();
  }
  await one("the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  });
}

/** A shell that runs it, so that what it leaves behind can be seen, and that is asked things afterwards. */
async function open(gateway) {
  const home = `${gateway.dir}/screen`;
  mkdirSync(home, { recursive: true });
  const where = { work: gateway.work, home, env: gateway.env };
  const screen = await Screen.open(where, ["sh"], { columns: 80, lines: 24 });
  await screen.say(`${gateway.binary} tree --watch; echo left with $?`);
  await screen.shows(SHOWN_S, "[1 Tree]", /● \d+ actors/);
  return screen;
}

const press = (screen, ...keys) => screen.do("send-keys", ...keys);

/** The one line with this in it. */
const line = (screen, part) => screen.text().split("\n").find((text) => text.includes(part)) ?? "";

async function look(screen, one) {
  await one("it shows the tree within the screen", async () => {
    await screen.shows(SHOWN_S, "RST BOX BUSY LAST EXIT", "├─ store running", "└─ loopback/default running");
    expect(screen.text().split("\n").every((text) => text.length <= 80), "lines of 80 columns", screen.text());
  });
  await one("keys switch the view, open the help, filter, and fold", async () => {
    press(screen, "3");
    await screen.shows(SHOWN_S, "[3 Channels]", "loopback/default healthy");
    press(screen, "?");
    await screen.shows(SHOWN_S, "restart the actor (asks first)");
    press(screen, "Escape");
    press(screen, "1", "/");
    await screen.say("loopback");
    await screen.shows(SHOWN_S, 'only "loopback"', "loopback/default");
    expect(!line(screen, "store"), "nothing else", screen.text());
    press(screen, "Escape");
    await screen.shows(SHOWN_S, "├─ store");
  });
  await one("it follows the size of the terminal", async () => {
    screen.do("resize-window", "-x", "40", "-y", "10");
    await screen.shows(SHOWN_S, "ACTOR STATE FOR gateway");
    screen.do("resize-window", "-x", "80", "-y", "24");
    await screen.shows(SHOWN_S, "RST BOX BUSY");
  });
}

async function act(screen, gateway, one) {
  await one("p, y parks a channel, which stands out; u resumes it", async () => {
    press(screen, "/");
    await screen.say("loopback");
    press(screen, "G", "p");
    await screen.shows(SHOWN_S, `park ${CHANNEL}? y/n`);
    press(screen, "n");
    await screen.shows(SHOWN_S, "nothing done", "loopback/default running");
    press(screen, "p", "y");
    await screen.shows(SHOWN_S, "1 PARKED", "loopback/default PARKED", `${CHANNEL}: parked`);
    const { root } = gateway.call("system.actors", { path: CHANNEL });
    expect(root.state === "parked", "a channel that is parked", root);
    press(screen, "u");
    await screen.shows(SHOWN_S, "loopback/default running", `${CHANNEL}: running`);
    expect(!screen.text().includes("PARKED"), "nothing parked", screen.text());
    press(screen, "Escape");
  });
}

async function survive(screen, gateway, one) {
  await one("kill -9, start: it says so, and shows the tree of the next life", async () => {
    await gateway.kill();
    await screen.shows(SHOWN_S, "no gateway for", "seeking it", "cannot be reached");
    press(screen, "p");
    await screen.shows(SHOWN_S, "nothing done: the gateway is not reachable");
    await gateway.start();
    await screen.shows(SHOWN_S, /● \d+ actors/, /channels running \d+ (ms|s) 0/, "loopback/default running");
  });
}

async function leave(screen, gateway, one) {
  const sane = async (code) => {
    await screen.shows(SHOWN_S, `left with ${code}`);
    await screen.say("clear; stty -a");
    const text = await screen.shows(SHOWN_S, / icanon /, / echo /);
    expect(!/-icanon|-echo |● \d+ actors/.test(text), "the shell's own screen, which echoes lines", text);
    expect(screen.do("display-message", "-p", "#{alternate_on} #{cursor_flag}").trim() === "0 1", "a cursor, no other screen");
  };
  await one("q leaves the terminal as it was", async () => {
    press(screen, "q");
    await sane(0);
  });
  await one("so does SIGTERM", async () => {
    await screen.say(`clear; ${gateway.binary} tree --watch; echo left with $?`);
    await screen.shows(SHOWN_S, /● \d+ actors/);
    const shell = screen.do("display-message", "-p", "#{pane_pid}").trim();
    const child = await until("it runs", SHOWN_S, () => execFileSync("ps", ["-o", "pid=", "--ppid", shell]).toString().trim());
    process.kill(Number(child), "SIGTERM");
    await sane(143);
  });
  await one("and Ctrl-C", async () => {
    await screen.say(`clear; ${gateway.binary} tree --watch; echo left with $?`);
    await screen.shows(SHOWN_S, /● \d+ actors/);
    press(screen, "C-c");
    await sane(0);
  });
}
