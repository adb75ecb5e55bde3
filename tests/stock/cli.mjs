// The stock `openclaw` CLI in remote mode, with nothing of its own: an empty home and state directory.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { check, expect, until } from "./checks.mjs";
import { Gateway, cleanEnv, track } from "./gateway.mjs";

/** Start-up dominates: 1 to 4 s idle, 5 to 20 s on a loaded machine. */
export const START_S = 60;
const REPLY = /^This is crabtree\/offline, .*\(turn (\d+)\): (.*)$/s;
/** At 20 ms a word the offline model says this for a minute. */
export const ENDLESS = "and so on ".repeat(1000);

export class Cli {
  constructor({ stock, work }, name, remote) {
    Object.assign(this, { stock, work, home: `${work}/${name}` });
    mkdirSync(`${this.home}/state`, { recursive: true });
    // Its log would go to /tmp/openclaw.
    const config = { gateway: { mode: "remote", remote }, logging: { file: `${this.home}/openclaw.log` } };
    writeFileSync(`${this.home}/state/openclaw.json`, JSON.stringify(config));
  }

  program(args) {
    return [process.execPath, `${this.stock}/oc/node_modules/openclaw/openclaw.mjs`, ...args];
  }

  get env() {
    return cleanEnv(this.home, { OPENCLAW_STATE_DIR: `${this.home}/state`, NO_COLOR: "1" });
  }

  spawn(args, stdin = "ignore") {
    const [node, ...program] = this.program(args);
    return track(spawn(node, program, { env: this.env, stdio: [stdin, "pipe", "pipe"] }), this.work);
  }

  /** Runs a command to its end: `{code, out, err}`. */
  run(...args) {
    return finished(this.spawn(args), args[0]);
  }

  /** Runs a command that has to succeed, and returns what it prints. */
  async ok(...args) {
    const { code, out, err } = await this.run(...args);
    expect(code === 0, `exit code 0 of ${args.join(" ")}`, `${code}, ${err.trim() || out.trim()}`);
    return out;
  }

  /** The same, for one that prints JSON. */
  async json(...args) {
    return json(await this.ok(...args));
  }

  call(method, params = {}) {
    return this.json("gateway", "call", method, "--params", JSON.stringify(params), "--json");
  }

  async history(sessionKey) {
    const { messages } = await this.call("chat.history", { sessionKey, limit: 50 });
    return messages.map(({ role, content }) => ({ role, text: typeof content === "string" ? content : content[0].text }));
  }
}

function finished(child, name) {
  return new Promise((done, fail) => {
    const output = { out: "", err: "" };
    child.stdout.on("data", (chunk) => (output.out += chunk));
    child.stderr.on("data", (chunk) => (output.err += chunk));
    const late = setTimeout(() => {
      child.kill("SIGKILL");
      fail(new Error(`${name} was not done after ${START_S} s; it printed:\n${output.out}${output.err}`));
    }, START_S * 1000);
    child.once("error", fail);
    child.once("close", (code, signal) => {
      clearTimeout(late);
      done({ code: signal ?? code, ...output });
    });
  });
}

function json(printed) {
  try {
    return JSON.parse(printed);
  } catch {
    throw new Error(`not JSON: ${printed.slice(0, 600)}`);
  }
}

/** What a reply of the offline model says: the turn's number and the words it heard. */
function reply(printed) {
  const match = REPLY.exec(printed.trim());
  expect(match, "the offline model's reply", printed);
  return { turn: Number(match[1]), heard: match[2] };
}

export async function checkCli(env) {
  const gateway = await Gateway.start(env, "cli-gateway");
  const cli = new Cli(env, "cli", { url: gateway.url, token: gateway.token });
  const one = (name, body) => check(`cli: ${name}`, body, () => gateway.log());
  await look(cli, gateway, one);
  await approve(cli, one);
  await talk(cli, one);
  await survive(cli, gateway, one);
  await one("a wrong token is told to the user", async () => {
    const stranger = new Cli(env, "stranger", { url: gateway.url, token: "wrong" });
    const { code, out, err } = await stranger.run("health", "--json");
    expect(code === 1 && /token mismatch/.test(out + err), "exit code 1 and the reason", `${code}, ${out}${err}`);
  });
  await one("SIGTERM ends the gateway with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0, "exit code 0", code);
    expect(gateway.panics() === 0, "no panic in the log");
  });
}

async function look(cli, gateway, one) {
  await one("health --json", async () => {
    const health = await cli.json("health", "--json");
    expect(health.ok === true && health.defaultAgentId === "main", "ok, agent main", health);
    expect(Array.isArray(health.actors?.parked), "the gateway's own answer, with its actors", health);
  });
  await one("gateway call health", async () => {
    const printed = await cli.ok("gateway", "call", "health");
    expect(/Gateway call: health/.test(printed) && /"ok": true/.test(printed), "the payload", printed);
  });
  await one("gateway call sessions.list --json", async () => {
    const list = await cli.call("sessions.list");
    expect(list.count === 0 && list.sessions.length === 0, "an empty list", list);
  });
  await one("gateway call with an unknown method fails as it should", async () => {
    const { code, out } = await cli.run("gateway", "call", "no.such.method", "--json");
    const { error } = json(out);
    expect(code === 1 && /unknown method|missing scope/.test(error.message), "exit code 1 and the reason", error);
  });
  await one("gateway status --url", async () => {
    const status = await cli.json("gateway", "status", "--url", gateway.url, "--token", gateway.token, "--json");
    expect(status.rpc?.ok === true && status.rpc.server?.version, "rpc.ok and the version", status.rpc);
  });
  await one("status --json", async () => {
    const status = await cli.json("status", "--json");
    expect(status.gateway.reachable === true && status.runtimeVersion, "reachable, version", status.gateway);
  });
  await one("system presence --json", async () => {
    const presence = await cli.json("system", "presence", "--json");
    expect(presence[0].mode === "gateway" && presence[0].reason === "self", "the gateway first", presence);
  });
  await one("models list --json", async () => {
    const { models } = await cli.json("models", "list", "--json");
    expect(models.some((model) => model.key === "crabtree/offline" && model.available), "crabtree/offline", models);
  });
  await one("logs", async () => {
    const printed = await cli.ok("logs");
    expect(/Gateway listening on ws:/.test(printed), "the gateway's lines", printed);
  });
  await one("logs --follow prints what comes later", async () => {
    const child = cli.spawn(["logs", "--follow"]);
    let printed = "";
    child.stdout.on("data", (chunk) => (printed += chunk));
    await until("the lines so far", START_S, () => printed.includes("Gateway listening"));
    gateway.child.kill("SIGHUP");
    await until("the line about SIGHUP", START_S, () => printed.includes("reading the configuration again"));
    child.kill("SIGKILL");
    expect(printed.split("Gateway listening").length === 2, "each line once", printed);
  });
}

async function approve(cli, one) {
  const rules = () => cli.json("approvals", "get", "--gateway", "--json");
  await one("approvals allowlist add, approvals get --gateway", async () => {
    await cli.ok("approvals", "allowlist", "add", "--gateway", "/usr/bin/uname");
    const { exists, file, hash } = await rules();
    const [entry] = file.agents["*"].allowlist;
    expect(exists && hash && entry.pattern === "/usr/bin/uname" && entry.id, "the entry, with an id", file);
    await cli.ok("approvals", "allowlist", "add", "--gateway", "--agent", "main", "/usr/bin/uname");
    const main = (await rules()).file.agents.main.allowlist;
    expect(main.length === 1, "an entry of one agent", main);
  });
  await one("approvals allowlist remove", async () => {
    await cli.ok("approvals", "allowlist", "remove", "--gateway", "/usr/bin/uname");
    await cli.ok("approvals", "allowlist", "remove", "--gateway", "--agent", "main", "/usr/bin/uname");
    const { file } = await rules();
    expect(!JSON.stringify(file).includes("uname"), "no entry", file);
  });
  await one("approvals pending, approvals resolve", async () => {
    const asked = { id: "stock-1", command: "uname -a", host: "gateway", twoPhase: true, requireDeliveryRoute: false };
    await cli.call("exec.approval.request", asked);
    const pending = await cli.ok("approvals", "pending", "--json");
    expect(pending.includes("stock-1") && pending.includes("uname -a"), "the request", pending);
    await cli.ok("approvals", "resolve", "stock-1", "allow-once");
    const { items } = await cli.call("approval.history");
    const [{ id, status, decision }] = items;
    expect(id === "stock-1" && status === "allowed" && decision === "allow-once", "allowed once", items);
    const left = await cli.ok("approvals", "pending", "--json");
    expect(!left.includes("stock-1"), "nothing that waits", left);
  });
  await one("approvals resolve of an unknown id fails as it should", async () => {
    const { code, out, err } = await cli.run("approvals", "resolve", "nosuch", "deny");
    expect(code === 1 && /not found/.test(out + err), "exit code 1 and the reason", `${code}, ${out}${err}`);
  });
  await one("approvals grants list", async () => {
    const printed = await cli.ok("approvals", "grants", "list", "--json");
    expect(json(printed).grants?.length === 0, "none", printed);
  });
}

async function talk(cli, one) {
  await one("agent --message prints the reply", async () => {
    const { turn, heard } = reply(await cli.ok("agent", "--message", "hello"));
    expect(turn === 1 && heard === "hello", "first turn, hello", { turn, heard });
  });
  await one("agent --json, in a session by its key", async () => {
    const done = await cli.json("agent", "--session-key", "agent:main:main", "--message", "first", "--json");
    expect(done.status === "ok" && done.summary === "completed", "status ok", done);
    expect(reply(done.result.payloads[0].text).turn === 2, "the main session's second turn", done.result.payloads);
    const again = await cli.ok("agent", "--session-key", "agent:main:main", "--message", "second");
    expect(reply(again).turn === 3, "the turn after it", again);
  });
  await one("agent --session-id goes on with its session", async () => {
    const turn = async (message) =>
      reply(await cli.ok("agent", "--session-id", "11111111-2222-3333-4444-555555555555", "--message", message)).turn;
    expect((await turn("one")) === 1, "first turn");
    const second = await turn("two");
    expect(second === 2, "second turn", second);
  });
  await one("agent, interrupted: chat.abort stops the turn", async () => {
    const key = "agent:main:endless";
    const child = cli.spawn(["agent", "--session-key", key, "--message", ENDLESS]);
    const done = finished(child, "agent");
    const row = async () => (await cli.call("sessions.list")).sessions.find((session) => session.key === key);
    await until("the turn runs", START_S, async () => (await row())?.hasActiveRun);
    child.kill("SIGINT");
    const { code } = await done;
    expect(code !== 0, "an exit code that is not 0", code);
    await until("the turn has stopped", 10, async () => (await row()).hasActiveRun === false);
  });
}

async function survive(cli, gateway, one) {
  const key = "agent:main:main";
  await one("agent --message has left its turn in the main session", async () => {
    const { sessions } = await cli.call("sessions.list");
    expect(sessions.some((row) => row.key === key), key, sessions.map((row) => row.key));
  });
  await one("kill -9, start: the CLI is answered again", async () => {
    await gateway.kill();
    await gateway.start();
    expect((await cli.json("health", "--json")).ok === true, "health says ok");
  });
  await one("gateway call chat.history: the turn of agent --message is still there", async () => {
    const rows = await cli.history(key);
    expect(rows.length === 6 && rows[0].role === "user" && rows[0].text === "hello", "the user's row", rows);
    expect(rows[1].role === "assistant" && reply(rows[1].text).heard === "hello", "the reply", rows);
  });
  await one("agent goes on in the session from before", async () => {
    const again = await cli.ok("agent", "--session-key", "agent:main:main", "--message", "third");
    expect(reply(again).turn === 4, "fourth turn", again);
  });
}
