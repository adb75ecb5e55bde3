// The Agent Client Protocol with others: its reference client against `crabtree acp`, and a real agent, the Gemini CLI,
// as the model of a session. Nobody is logged in here: the handshake succeeds, and the first prompt says what is missing.
import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { Readable, Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import { check, expect, until } from "./checks.mjs";
import { ENDLESS } from "./cli.mjs";
import { Gateway, track } from "./gateway.mjs";

const TURN_S = 60;
const GONE_S = 10;

export async function checkAcp(env) {
  const packages = `${env.stock}/acp/node_modules`;
  const sdk = await import(pathToFileURL(`${packages}/@agentclientprotocol/sdk/dist/v1/stable/acp.js`));
  const gemini = `${packages}/@google/gemini-cli/bundle/gemini.js`;
  const { version } = JSON.parse(readFileSync(`${packages}/@google/gemini-cli/package.json`, "utf8"));
  const config = { acp: { agents: { gemini: { command: process.execPath, args: [gemini, "--acp"] } } } };
  const gateway = await Gateway.start(env, "acp-gateway", config);
  const one = (name, body) => check(`acp: ${name}`, body, () => gateway.log());

  const bridge = track(
    spawn(env.binary, ["acp", "--url", gateway.url, "--token", gateway.token], {
      env: gateway.env,
      stdio: ["pipe", "pipe", "inherit"],
    }),
    env.work,
  );
  const ended = new Promise((done) => bridge.once("close", (code, signal) => done(signal ?? code)));
  const updates = [];
  const editor = sdk
    .client({ name: "crabtree-checks" })
    .onNotification(sdk.methods.client.session.update, ({ params }) => void updates.push(params.update));
  const stream = sdk.ndJsonStream(Writable.toWeb(bridge.stdin), Readable.toWeb(bridge.stdout));
  await editor.connectWith(stream, (agent) => edit(agent, sdk.methods.agent, { updates, version, one }));
  bridge.stdin.end();
  await one("the bridge ends with its editor", async () => {
    const late = setTimeout(() => bridge.kill("SIGKILL"), GONE_S * 1000);
    const code = await ended;
    clearTimeout(late);
    expect(code === 0, "exit code 0", code);
  });
  await one("no process of the agent stays", () => until("it is gone", GONE_S, () => running(gemini) === 0));
  await one("the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  });
}

async function edit(agent, methods, { updates, version, one }) {
  const text = (kind) =>
    updates.filter(({ sessionUpdate }) => sessionUpdate === kind).map(({ content }) => content.text).join("");
  await one("the reference client is greeted", async () => {
    const hello = await agent.request(methods.initialize, { protocolVersion: 1, clientCapabilities: {} });
    expect(hello.agentInfo.name === "crabtree-acp" && hello.agentCapabilities.loadSession, "crabtree-acp", hello);
  });
  const { sessionId } = await agent.request(methods.session.new, { cwd: "/tmp", mcpServers: [] });
  const say = async (words) => {
    updates.length = 0;
    const prompt = agent.request(methods.session.prompt, { sessionId, prompt: [{ type: "text", text: words }] });
    const late = new Promise((_, fail) => setTimeout(fail, TURN_S * 1000, new Error("no end of the turn")).unref());
    return (await Promise.race([prompt, late])).stopReason;
  };
  await one("an answer streams in", async () => {
    const stopped = await say("hello editor");
    const said = text("agent_message_chunk");
    expect(stopped === "end_turn" && /\(turn 1\): .*hello editor$/s.test(said), "the whole answer", { stopped, said });
  });
  await one("a tool is shown, from its call to its result", async () => {
    await say("/tool session_status {}");
    const call = updates.find(({ sessionUpdate }) => sessionUpdate === "tool_call");
    const changes = updates.filter(({ toolCallId, sessionUpdate }) => toolCallId === call?.toolCallId && sessionUpdate !== "tool_call");
    expect(changes.some(({ content }) => content?.length) && changes.at(-1)?.status === "completed", "a result", updates);
  });
  await one("a prompt is cancelled", async () => {
    const turn = say(ENDLESS);
    await until("it answers", TURN_S, () => updates.length > 0);
    await agent.notify(methods.session.cancel, { sessionId });
    const stopped = await turn;
    expect(stopped === "cancelled", "cancelled", stopped);
  });
  await one("a conversation is shown again", async () => {
    updates.length = 0;
    await agent.request(methods.session.load, { sessionId, cwd: "/tmp", mcpServers: [] });
    expect(text("user_message_chunk").startsWith("hello editor"), "what was said", updates);
  });
  await one("a real agent is the model: the handshake succeeds, and nobody is logged in", async () => {
    await say("/model acp/gemini");
    const why = await say("hello gemini").then(String, ({ message }) => message);
    const wanted = `Gemini CLI ${version} (acp/gemini) is not logged in`;
    expect(why.includes(wanted), wanted, why);
  });
}

/** How many processes have this in their command line. */
function running(part) {
  const line = (pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8");
    } catch {
      return "";
    }
  };
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name) && line(name).includes(part)).length;
}
