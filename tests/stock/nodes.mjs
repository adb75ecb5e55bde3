// The stock headless node host: it pairs, is approved with the stock CLI, carries out commands, and comes back by itself.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { check, expect, until } from "./checks.mjs";
import { Cli, START_S } from "./cli.mjs";
import { Gateway, cleanEnv } from "./gateway.mjs";

const NAME = "stock-node";
/** After the gateway was killed the host waits 1, 2, 4, 8 s. */
const BACK_S = 60;

export async function checkNodes(env) {
  const gateway = await Gateway.start(env, "nodes-gateway");
  const cli = new Cli(env, "nodes-cli", { url: gateway.url, token: gateway.token });
  const host = new Host(env, gateway);
  const one = (name, body) => check(`nodes: ${name}`, body, () => `${gateway.log()}\n${host.output}`);
  await pairing(cli, host, one);
  await commands(cli, host, one);
  await ofAgent(cli, host, one);
  await agreed(env, gateway, cli, host, one);
  await agreedOfAgent(cli, host, one);
  await one("the gateway is killed, and the node comes back approved", async () => {
    await gateway.kill();
    await gateway.start();
    await until("the node is back", BACK_S, async () => (await node(cli))?.connected);
    const { approvalState, displayName } = await node(cli);
    expect(approvalState === "approved" && displayName === "renamed", "as before", approvalState);
    const found = await cli.json("nodes", "invoke", "--node", "renamed", "--command", "system.which", "--params", '{"bins":["ls"]}', "--json");
    expect(JSON.stringify(found).includes("/ls"), "it works", found);
  });
  await one("openclaw nodes remove closes the host's socket and forgets it", async () => {
    await cli.ok("nodes", "remove", "--node", "renamed", "--json");
    const { nodes } = await cli.call("node.list");
    expect(nodes.every(({ displayName }) => displayName !== "renamed"), "the name is gone", nodes);
  });
  await host.end();
  await one("the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  });
}

/** `openclaw node run` in a state directory of its own. */
class Host {
  constructor(env, gateway) {
    this.output = "";
    const cli = new Cli(env, "nodes-host", { url: gateway.url, token: gateway.token });
    // The browser and the local models of this machine are none of the test's business.
    Object.defineProperty(cli, "env", {
      value: cleanEnv(cli.home, {
        OPENCLAW_STATE_DIR: `${cli.home}/state`,
        OPENCLAW_GATEWAY_TOKEN: gateway.token,
        NO_COLOR: "1",
      }),
    });
    this.home = cli.home;
    this.child = cli.spawn(["node", "run", "--host", "127.0.0.1", "--port", String(gateway.port), "--display-name", NAME]);
    this.child.stdout.on("data", (chunk) => (this.output += chunk));
    this.child.stderr.on("data", (chunk) => (this.output += chunk));
    this.ended = new Promise((done) => this.child.once("close", done));
  }

  async end() {
    this.child.kill("SIGTERM");
    const late = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
    await this.ended;
    clearTimeout(late);
  }
}

const node = async (cli) => (await cli.call("node.list")).nodes[0];

async function pairing(cli, host, one) {
  await one("openclaw node run pairs its device, and waits for a person", async () => {
    await until("the node is there", START_S, async () => (await node(cli))?.connected);
    const { approvalState, commands, displayName } = await node(cli);
    expect(displayName === NAME && approvalState === "pending-approval", "it waits", approvalState);
    expect(commands.length === 0, "nothing counts yet", commands);
  });
  await one("openclaw nodes pending and approve: its commands count at once", async () => {
    const pending = await cli.ok("nodes", "pending");
    const { pending: [request] } = await cli.call("node.pair.list");
    expect(pending.includes(NAME) && request.displayName === NAME, "it is shown", pending);
    await cli.ok("nodes", "approve", request.requestId);
    const { approvalState, commands } = await node(cli);
    expect(approvalState === "approved", "approved", approvalState);
    expect(["system.run", "system.which"].every((name) => commands.includes(name)), "its commands", commands);
    expect(!commands.includes("file.write"), "no more than the policy lets it", commands);
  });
  await one("the host tells how its machine is, and what it offers is taken", async () => {
    const { nodePluginTools } = await node(cli);
    expect(Array.isArray(nodePluginTools) && nodePluginTools.length === 0, "no tools", nodePluginTools);
    const places = await cli.call("environments.list");
    expect(places.environments.some(({ id, status }) => id.startsWith("node:") && status === "available"), "a place", places);
  });
}

async function commands(cli, host, one) {
  await one("openclaw nodes list, status and describe show it", async () => {
    expect((await cli.ok("nodes", "list")).includes(NAME), "in the list");
    const { nodes } = await cli.json("nodes", "status", "--json");
    expect(nodes[0].displayName === NAME && nodes[0].connected, "in the status", nodes);
    const shown = await cli.json("nodes", "describe", "--node", NAME, "--json");
    expect(JSON.stringify(shown).includes("system.which"), "described", shown);
  });
  await one("openclaw nodes invoke system.which finds a program", async () => {
    const found = await cli.json("nodes", "invoke", "--node", NAME, "--command", "system.which", "--params", '{"bins":["uname"]}', "--json");
    expect(JSON.stringify(found).includes("/uname"), "its path", found);
  });
  await one("openclaw nodes invoke of what the policy forbids is refused", async () => {
    const { code, err, out } = await cli.run("nodes", "invoke", "--node", NAME, "--command", "camera.snap");
    expect(code !== 0 && /explicit gateway\.nodes\.commands\.allow/.test(err + out), "refused", err + out);
  });
  await one("openclaw nodes rename gives it a name", async () => {
    await cli.ok("nodes", "rename", "--node", NAME, "--name", "renamed");
    expect((await node(cli)).displayName === "renamed", "its name");
  });
  await one("openclaw approvals get --node reads its rules through the gateway", async () => {
    const rules = await cli.json("approvals", "get", "--node", "renamed", "--json");
    expect(rules.file?.version === 1 || JSON.stringify(rules).includes('"version"'), "a document", rules);
  });
}

/** Has the built-in model run a line at the node; what came of it, once `meanwhile` is done. */
async function exec(cli, command, key, meanwhile = async () => {}) {
  const message = `/tool exec ${JSON.stringify({ command, host: "node" })}`;
  await cli.call("chat.send", { sessionKey: "main", message, idempotencyKey: key });
  await meanwhile();
  await cli.call("agent.wait", { runId: key, timeoutMs: 30_000 });
  const { messages } = await cli.call("chat.history", { sessionKey: "main" });
  return messages.findLast(({ role }) => role === "toolResult").content[0].text;
}

async function ofAgent(cli, host, one) {
  await one("the agent runs a command at the node", async () => {
    const text = await exec(cli, "echo $((6 * 7)) at $HOME; exit 3", "exec-1");
    expect(text.startsWith("Node: ") && text.includes(`42 at ${host.home}`) && text.includes("code 3"), "its end", text);
  });
}

/** The node's own rules ask by now. */
async function agreedOfAgent(cli, host, one) {
  await one("what the node asks about waits for a person, and runs as they saw it", async () => {
    const text = await exec(cli, `touch ${host.home}/of-agent`, "exec-2", async () => {
      const asked = () => cli.call("exec.approval.list");
      const [{ id, request }] = await until("a person is asked", START_S, async () => {
        const list = await asked();
        return list.length > 0 && list;
      });
      expect(request.host === "node" && request.systemRunPlan.argv.at(-1).includes("of-agent"), "its plan", request);
      await cli.ok("approvals", "resolve", id, "allow-once");
    });
    expect(text.includes("(no output)"), "it ran", text);
    readFileSync(`${host.home}/of-agent`);
  });
}

/** A stock client that keeps its connection: only who asked for an approval may use it. */
async function connected({ stock }, gateway) {
  const require = createRequire(`${stock}/gc/package.json`);
  const { GatewayClient } = await import(pathToFileURL(require.resolve("@openclaw/gateway-client")));
  return new Promise((done, fail) => {
    const client = new GatewayClient({
      url: gateway.url,
      token: gateway.token,
      clientName: "gateway-client",
      mode: "backend",
      clientVersion: "stock",
      platform: "linux",
      role: "operator",
      scopes: ["operator.write", "operator.approvals"],
      onHelloOk: () => done(client),
      onConnectError: fail,
    });
    client.start();
  });
}

/** A command that people agreed to once, as an agent's gateway asks for it. */
async function agreed(env, gateway, cli, host, one) {
  await one("a command that a person approved once runs exactly once", async () => {
    const { nodeId } = await node(cli);
    const client = await connected(env, gateway);
    const invoke = (command, params) => client.request("node.invoke", { nodeId, command, params, idempotencyKey: `${command}-1` });
    const refused = (command, params) => invoke(command, params).then(() => "it ran", (error) => error.message);
    const rules = await cli.call("exec.approvals.node.get", { nodeId });
    const file = { version: 1, defaults: { security: "allowlist", ask: "on-miss" }, agents: {} };
    await cli.call("exec.approvals.node.set", { nodeId, baseHash: rules.hash, file });
    const command = ["/usr/bin/touch", `${host.home}/once`];
    const bare = await refused("system.run", { command });
    expect(/SYSTEM_RUN_DENIED/.test(bare), "the node denies it", bare);
    const { payload: { plan } } = await invoke("system.run.prepare", { command, rawCommand: command.join(" ") });
    const asked = { id: "node-1", command: plan.commandText, commandArgv: plan.argv, systemRunPlan: plan, nodeId, host: "node", cwd: plan.cwd, twoPhase: true, timeoutMs: 120_000, requireDeliveryRoute: false };
    await client.request("exec.approval.request", asked);
    const run = { command: plan.argv, rawCommand: plan.commandText, cwd: plan.cwd, systemRunPlan: plan, runId: "node-1", approved: true, approvalDecision: "allow-once" };
    const early = await refused("system.run", run);
    expect(/approval required/.test(early), "nobody agreed yet", early);
    await cli.ok("approvals", "resolve", "node-1", "allow-once");
    const done = await invoke("system.run", run);
    expect(done.payload.success, "it runs", done);
    const again = await refused("system.run", run);
    expect(/approval required/.test(again), "not again", again);
    client.stop();
    readFileSync(`${host.home}/once`);
  });
}
