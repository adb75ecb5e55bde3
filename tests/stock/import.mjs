// A home of the real gateway, made with the stock CLI, is taken over: its clients go on as if nothing had happened.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { check, expect, until } from "./checks.mjs";
import { Cli } from "./cli.mjs";
import { Device } from "./device.mjs";
import { Gateway, cleanEnv, freePort, track } from "./gateway.mjs";
import { Peer } from "./stdio.mjs";

const TOKEN = "the-token-of-the-old-gateway-0123456789";
const ANSWER = "The old model's answer.";
const KEY = "agent:main:main";
/** The real gateway and its node host start in 6 to 10 s idle, and in ten times that on a loaded machine. */
const SLOW_S = 150;

export async function checkImport(env) {
  const port = await freePort();
  const model = await mockModel();
  const old = new Old(env, port, model.address().port);
  const cli = new Cli(env, "import-cli", { url: old.url, token: TOKEN });
  const device = new Device(old);
  const one = (name, body) => check(`import: ${name}`, body, () => `${old.output.slice(-3000)}\n${gateway?.output ?? ""}`);
  let gateway;
  try {
    await live(env, old, cli, device, one);
    gateway = await takeOver(env, old, port, one);
    if (gateway) await goOn(env, gateway, cli, device, one);
  } finally {
    await old.end();
    model.close();
    await gateway?.stop();
  }
}

/** The real gateway, in a home of its own. */
class Old {
  constructor(env, port, modelPort) {
    Object.assign(this, { env, port, home: `${env.work}/import-old`, url: `ws://127.0.0.1:${port}`, token: TOKEN, output: "" });
    this.state = `${this.home}/state`;
    mkdirSync(this.state, { recursive: true });
    const provider = {
      baseUrl: `http://127.0.0.1:${modelPort}/v1`,
      apiKey: "none",
      api: "openai-completions",
      models: [{ id: "m", name: "m", contextWindow: 32768, maxTokens: 1000 }],
    };
    const config = {
      gateway: { mode: "local", port, bind: "loopback", auth: { mode: "token", token: TOKEN } },
      models: { mode: "replace", providers: { mock: provider } },
      agents: { defaults: { model: "mock/m", workspace: `${this.home}/workspace`, skipBootstrap: true } },
      logging: { file: `${this.home}/openclaw.log` },
    };
    writeFileSync(`${this.state}/openclaw.json`, JSON.stringify(config));
  }

  async start() {
    const program = `${this.env.stock}/oc/node_modules/openclaw/openclaw.mjs`;
    const vars = cleanEnv(this.home, { OPENCLAW_STATE_DIR: this.state, NO_COLOR: "1" });
    const args = [program, "gateway", "run", "--port", String(this.port)];
    this.child = track(spawn(process.execPath, args, { env: vars, stdio: ["ignore", "pipe", "pipe"] }), this.env.work);
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on("data", (text) => (this.output += text));
    this.ended = new Promise((done) => this.child.once("close", done));
    await until("the real gateway is ready", SLOW_S, () => /\[gateway\] ready/.test(this.output));
  }

  async end() {
    if (!this.child) return;
    this.child.kill("SIGTERM");
    const late = setTimeout(() => this.child.kill("SIGKILL"), 20_000);
    await this.ended;
    clearTimeout(late);
  }

  /** Every file with what it holds and when it was changed. */
  listing(dir = this.state) {
    return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
      const path = `${dir}/${entry.name}`;
      if (entry.isDirectory()) return [path, ...this.listing(path)];
      const hash = entry.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : "";
      return [`${path} ${entry.isFile() ? statSync(path).mtimeMs : ""} ${hash}`];
    });
  }
}

/** `openclaw node run` with a key of its own, as long as `body` runs. */
async function withNode(env, port, body) {
  const cli = new Cli(env, "import-node", { url: `ws://127.0.0.1:${port}`, token: TOKEN });
  const vars = cleanEnv(cli.home, { OPENCLAW_STATE_DIR: `${cli.home}/state`, OPENCLAW_GATEWAY_TOKEN: TOKEN, NO_COLOR: "1" });
  Object.defineProperty(cli, "env", { value: vars });
  const child = cli.spawn(["node", "run", "--host", "127.0.0.1", "--port", String(port), "--display-name", "old-node"]);
  const ended = new Promise((done) => child.once("close", done));
  try {
    return await body();
  } finally {
    child.kill("SIGTERM");
    const late = setTimeout(() => child.kill("SIGKILL"), 10_000);
    await ended;
    clearTimeout(late);
  }
}

const connectedNode = (cli) =>
  until("the node is there", SLOW_S, async () => (await cli.call("node.list")).nodes.find((node) => node.connected));

/** `openclaw mcp serve` connects with the device of its home. */
async function serve(cli) {
  const peer = new Peer(cli.spawn(["mcp", "serve"], "pipe"), "mcp serve");
  const info = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "test", version: "1" } };
  await peer.ask("initialize", info);
  peer.write({ method: "notifications/initialized" });
  const { content } = await peer.ask("tools/call", { name: "conversations_list", arguments: {} });
  await peer.end();
  return content.map((part) => part.text).join("\n");
}

/** The old gateway's life: devices, a node, a conversation, a job. */
async function live(env, old, cli, device, one) {
  await one("the real gateway starts", () => old.start());
  await one("openclaw mcp serve and a device of its own are paired there", async () => {
    await serve(cli);
    const { hello } = await device.connect({ token: TOKEN });
    device.token = hello?.auth.deviceToken;
    expect(device.token, "a token", hello?.auth);
  });
  await one("openclaw node run is paired and approved there", () =>
    withNode(env, old.port, async () => {
      const { nodeId } = await connectedNode(cli);
      const [request] = await cli.json("nodes", "pending", "--json");
      await cli.ok("nodes", "approve", request.requestId, "--json");
      const { nodes } = await cli.call("node.list");
      expect(nodes.find((node) => node.nodeId === nodeId)?.approvalState === "approved", "approved", nodes);
    }));
  await one("openclaw agent has a conversation there", async () => {
    await cli.ok("agent", "--agent", "main", "--message", "A word to the old gateway", "--json");
    await cli.call("sessions.patch", { key: KEY, label: "Old words" });
  });
  await one("openclaw cron add makes a job there", () =>
    cli.ok("cron", "add", "--name", "old-morning", "--cron", "0 7 * * *", "--message", "Say good morning", "--json"));
}

async function takeOver(env, old, port, one) {
  const gateway = new Gateway(env.binary, env.work, `${env.work}/import-gateway`);
  gateway.port = port;
  gateway.token = TOKEN;
  mkdirSync(gateway.dir, { recursive: true });
  const run = (...args) => JSON.parse(gateway.run("import", "openclaw", old.state, "--json", ...args));
  await one("while the real gateway runs, it is only looked at", () => {
    let refused;
    try {
      run();
    } catch (error) {
      refused = error;
    }
    expect(refused?.status === 78, "exit code 78", refused?.status);
    const { items } = run("--dry-run");
    const names = items.filter(({ action }) => action === "import").map(({ kind, name }) => `${kind} ${name}`);
    for (const name of ["devices OpenClaw MCP", "nodes old-node", "cron old-morning", `sessions ${KEY}`]) {
      expect(names.includes(name), name, items);
    }
  });
  await old.end();
  return one("crabtree import openclaw takes it over and changes nothing there", async () => {
    const before = old.listing();
    const { imported, failed, brokenEntries } = run();
    const { config, devices, nodes, cron, sessions } = imported;
    expect(failed.length === 0 && brokenEntries === 0, "all of it", { failed, brokenEntries });
    expect(config >= 1 && devices === 3 && nodes === 1 && cron === 1 && sessions >= 1, "what was there", imported);
    const again = run();
    expect(Object.values(again.imported).every((count) => count === 0), "nothing twice", again.imported);
    expect(old.listing().join("\n") === before.join("\n"), "not a byte and no file changed");
    // From here on nobody is paired without being asked about.
    Object.defineProperty(gateway, "env", {
      value: { ...gateway.env, CRABTREE_GATEWAY__NODES__PAIRING__AUTO_APPROVE_LOCAL: "false" },
    });
    await gateway.start();
    return gateway;
  });
}

async function goOn(env, gateway, cli, device, one) {
  const inside = (name, body) => check(`import: ${name}`, body, () => gateway.log());
  await inside("the old token is the token, and nobody waits to be paired", async () => {
    expect(gateway.run("token").trim() === TOKEN, "the old token");
    const { pending, paired } = await cli.json("devices", "list", "--json");
    expect(pending.length === 0 && paired.length === 3, "three devices", { pending, paired });
  });
  await inside("a device comes in with the token that the real gateway gave it", async () => {
    const back = new Device(gateway);
    Object.assign(back, { privateKey: device.privateKey, id: device.id, publicKey: device.publicKey });
    const { hello, error } = await back.connect({ deviceToken: device.token });
    expect(hello?.auth.method === "device-token", "let in", error);
  });
  await inside("openclaw mcp serve comes in with its old device, without any other secret", async () => {
    const config = { gateway: { mode: "remote", remote: { url: gateway.url } }, logging: { file: `${cli.home}/openclaw.log` } };
    const file = `${cli.home}/state/openclaw.json`;
    const before = readFileSync(file);
    writeFileSync(file, JSON.stringify(config));
    const listed = await serve(cli).finally(() => writeFileSync(file, before));
    expect(listed !== undefined, "an answer");
  });
  await inside("openclaw node run comes back approved", () =>
    withNode(env, gateway.port, async () => {
      const { approvalState, displayName } = await connectedNode(cli);
      expect(approvalState === "approved" && displayName === "old-node", "as before", { approvalState, displayName });
      await cli.ok("nodes", "invoke", "--node", "old-node", "--command", "system.which", "--params", '{"bins":["ls"]}', "--json");
    }));
  await inside("the conversation goes on where it was", async () => {
    const { sessions } = await cli.call("sessions.list");
    expect(sessions.find(({ key }) => key === KEY)?.label === "Old words", "its name", sessions);
    const said = (await cli.history(KEY)).map(({ text }) => text);
    expect(said.length === 2 && said[0].includes("A word to the old gateway") && said[1] === ANSWER, "what was said", said);
    await cli.ok("agent", "--agent", "main", "--message", "A word to the new one", "--json");
    const all = (await cli.history(KEY)).map(({ text }) => text);
    expect(all.length === 4 && all[3] === ANSWER, "it goes on with the same model", all);
  });
  await inside("openclaw cron list shows the old job", async () => {
    const { jobs } = await cli.json("cron", "list", "--json");
    expect(jobs.length === 1 && jobs[0].name === "old-morning", "that one", jobs);
    expect(jobs[0].enabled && jobs[0].state.nextRunAtMs > Date.now(), "it is due again", jobs[0]);
  });
  await inside("nobody had to be paired", async () => {
    const { pending, paired } = await cli.json("devices", "list", "--json");
    expect(pending.length === 0 && paired.length === 3, "the same three devices", { pending, paired });
    expect(gateway.panics() === 0, "no panic in the log");
  });
}

/** A model over HTTP that says one thing. */
function mockModel() {
  const chunk = (delta, finish_reason = null) =>
    `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
  const server = createServer((request, answer) => {
    request.resume().on("end", () => {
      answer.writeHead(200, { "content-type": "text/event-stream" });
      answer.end(`${chunk({ role: "assistant", content: ANSWER })}${chunk({}, "stop")}data: [DONE]\n\n`);
    });
  });
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server)));
}
