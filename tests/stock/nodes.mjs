// The stock headless node host: it pairs, is approved with the stock CLI, carries out commands, and comes back by itself.
import { readFileSync } from "node:fs";
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
  await agreed(cli, host, one);
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

/** A command that people agreed to once, as an agent's gateway asks for it. */
async function agreed(cli, host, one) {
  await one("a command that a person approved once runs exactly once", async () => {
    const { nodeId } = await node(cli);
    const invoke = (command, params) => cli.run("gateway", "call", "node.invoke", "--json", "--timeout", "40000", "--params", JSON.stringify({ nodeId, command, params, idempotencyKey: `${command}-1` }));
    const rules = await cli.call("exec.approvals.node.get", { nodeId });
    const file = { version: 1, defaults: { security: "allowlist", ask: "on-miss" }, agents: {} };
    await cli.call("exec.approvals.node.set", { nodeId, baseHash: rules.hash, file });
    const wish = ["/bin/sh", "-c", `echo ran >> ${host.home}/ran`];
    const bare = await invoke("system.run", { command: wish });
    expect(bare.code !== 0 && /SYSTEM_RUN_DENIED/.test(bare.err + bare.out), "the node denies it", bare.err + bare.out);
    const prepared = JSON.parse((await invoke("system.run.prepare", { command: ["/usr/bin/touch", `${host.home}/once`], rawCommand: `/usr/bin/touch ${host.home}/once` })).out);
    const { plan } = prepared.payload;
    const asked = { id: "node-1", command: plan.commandText, commandArgv: plan.argv, systemRunPlan: plan, nodeId, host: "node", cwd: plan.cwd, twoPhase: true, timeoutMs: 120_000, requireDeliveryRoute: false };
    await cli.call("exec.approval.request", asked);
    const run = { command: plan.argv, rawCommand: plan.commandText, cwd: plan.cwd, systemRunPlan: plan, runId: "node-1", approved: true, approvalDecision: "allow-once" };
    const early = await invoke("system.run", run);
    expect(early.code !== 0 && /approval required/.test(early.err + early.out), "nobody agreed yet", early.err + early.out);
    await cli.ok("approvals", "resolve", "node-1", "allow-once");
    const done = await invoke("system.run", run);
    expect(done.code === 0 && JSON.parse(done.out).payload.success, "it runs", done.err + done.out);
    const again = await invoke("system.run", run);
    expect(again.code !== 0 && /approval required/.test(again.err + again.out), "not again", again.err + again.out);
    readFileSync(`${host.home}/once`);
  });
}
