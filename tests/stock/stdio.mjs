// The stock `openclaw acp` and `openclaw mcp serve`: JSON-RPC over stdio on one side, the gateway on the other.
import { check, expect, until } from "./checks.mjs";
import { Cli, ENDLESS, START_S } from "./cli.mjs";
import { Gateway } from "./gateway.mjs";

/** A child that speaks JSON-RPC, one message a line. */
export class Peer {
  constructor(child, name) {
    Object.assign(this, { child, name, next: 0, waiting: new Map(), notices: [], errors: "", rest: "" });
    child.stdout.on("data", (chunk) => this.read(chunk));
    child.stderr.on("data", (chunk) => (this.errors += chunk));
    this.ended = new Promise((done) => child.once("close", (code, signal) => done(signal ?? code)));
    this.ended.then((code) => this.fail(new Error(`${name} ended with ${code}: ${this.errors}`)));
  }

  read(chunk) {
    const lines = (this.rest + chunk).split("\n");
    this.rest = lines.pop();
    for (const line of lines.filter((text) => text.trim())) {
      const message = JSON.parse(line);
      const asked = this.waiting.get(message.id);
      if (message.method) this.notices.push(message);
      else if (message.error) asked?.fail(new Error(`${asked.method}: ${JSON.stringify(message.error)}`));
      else asked?.done(message.result);
    }
  }

  fail(error) {
    for (const { fail } of this.waiting.values()) fail(error);
  }

  write(message) {
    this.child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  }

  /** Asks, and returns the result. */
  ask(method, params = {}) {
    const id = ++this.next;
    return new Promise((done, fail) => {
      const late = setTimeout(() => fail(new Error(`no answer to ${method} in ${START_S} s: ${this.errors}`)), START_S * 1000);
      const once = (settle) => (value) => (clearTimeout(late), this.waiting.delete(id), settle(value));
      this.waiting.set(id, { method, done: once(done), fail: once(fail) });
      this.write({ id, method, params });
    });
  }

  /** Closes its input, upon which it has to end. */
  async end() {
    this.child.stdin.end();
    const late = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
    const code = await this.ended;
    clearTimeout(late);
    return code;
  }
}

export async function checkStdio(env) {
  const gateway = await Gateway.start(env, "stdio-gateway");
  const cli = new Cli(env, "stdio", { url: gateway.url, token: gateway.token });
  const one = (name, body) => check(name, body, () => gateway.log());
  const peer = (...args) => new Peer(cli.spawn(args, "pipe"), args.join(" "));
  const sessionKey = await acp(peer("acp"), (name, body) => one(`acp: ${name}`, body), cli);
  await mcp(peer("mcp", "serve"), (name, body) => one(`mcp serve: ${name}`, body), sessionKey);
  await one("devices list: the device of both, with its token", async () => {
    const { pending, paired } = await cli.json("devices", "list", "--json");
    expect(pending.length === 0 && paired.length === 1, "one device", paired);
    expect(paired[0].clientId === "cli" && paired[0].tokens[0]?.role === "operator", "its token", paired);
  });
  await one("acp and mcp serve: the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  });
}

/** The text of an agent's answer so far. */
const answered = (peer) =>
  peer.notices
    .map(({ params }) => params.update)
    .filter((update) => update.sessionUpdate === "agent_message_chunk")
    .map((update) => update.content.text)
    .join("");

async function acp(peer, one, cli) {
  await one("initialize", async () => {
    const hello = await peer.ask("initialize", { protocolVersion: 1, clientCapabilities: {} });
    expect(hello.protocolVersion === 1 && hello.agentInfo.name === "openclaw-acp", "version 1 of openclaw-acp", hello);
  });
  const prompt = (sessionId, text) => peer.ask("session/prompt", { sessionId, prompt: [{ type: "text", text }] });
  const sessionId = await one("session/new", async () => {
    const session = await peer.ask("session/new", { cwd: "/tmp", mcpServers: [] });
    expect(/^[0-9a-f-]{36}$/.test(session.sessionId), "an id", session);
    return session.sessionId;
  });
  const sessionKey = `agent:main:acp-bridge:${sessionId}`;
  await one("session/prompt: the answer streams in and the turn ends", async () => {
    const { stopReason } = await prompt(sessionId, "hello acp");
    expect(stopReason === "end_turn", "end_turn", stopReason);
    expect(/\(turn 1\): .*hello acp$/s.test(answered(peer)), "the whole answer", answered(peer));
    const chunks = peer.notices.filter(({ params }) => params.update.sessionUpdate === "agent_message_chunk");
    expect(chunks.length > 1, "in several pieces", chunks.length);
  });
  await one("session/cancel stops a turn", async () => {
    const before = answered(peer).length;
    const turn = prompt(sessionId, ENDLESS);
    await until("it answers", START_S, () => answered(peer).length > before);
    peer.write({ method: "session/cancel", params: { sessionId } });
    const { stopReason } = await turn;
    expect(stopReason === "cancelled", "cancelled", stopReason);
    const { sessions } = await cli.call("sessions.list");
    const row = sessions.find(({ key }) => key === sessionKey);
    expect(row?.status === "killed" && row.hasActiveRun === false, "the session rests, its turn killed", row);
  });
  await one("it ends when its input does", async () => {
    const code = await peer.end();
    expect(code === 0, "exit code 0", code);
  });
  return sessionKey;
}

async function mcp(peer, one, sessionKey) {
  await one("initialize", async () => {
    const params = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "crabtree", version: "0" } };
    const hello = await peer.ask("initialize", params);
    expect(hello.serverInfo.name === "openclaw" && hello.capabilities.tools, "openclaw, with tools", hello);
    peer.write({ method: "notifications/initialized" });
  });
  await one("tools/list", async () => {
    const { tools } = await peer.ask("tools/list");
    const names = tools.map(({ name }) => name);
    expect(["conversations_list", "messages_read"].every((name) => names.includes(name)), "its tools", names);
  });
  await one("conversations_list: none, because no channel has brought one", async () => {
    const { structuredContent, isError } = await peer.ask("tools/call", { name: "conversations_list", arguments: {} });
    expect(!isError && structuredContent.conversations.length === 0, "an empty list", structuredContent);
  });
  await one("messages_read: what was said over acp", async () => {
    const args = { session_key: sessionKey, limit: 10 };
    const { structuredContent, isError } = await peer.ask("tools/call", { name: "messages_read", arguments: args });
    const roles = structuredContent?.messages?.map(({ role }) => role);
    expect(!isError && roles?.includes("user") && roles.includes("assistant"), "question and answer", roles);
  });
  await one("it ends when its input does", async () => {
    const code = await peer.end();
    expect(code === 0, "exit code 0", code);
  });
}
