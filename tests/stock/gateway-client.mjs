// npm `@openclaw/gateway-client`: the reference client, in this process, against a gateway that is killed.
import { createHash, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { check, expect, until } from "./checks.mjs";
import { Gateway } from "./gateway.mjs";

const TURN_S = 30;
const CONNECT_S = 30;
const SESSION = "agent:main:stock";
/** Long enough that a kill -9 after the first words comes in the middle. */
const LONG = `say this back: ${"word ".repeat(150)}end`;

let GatewayClient;

/** A stock client that keeps what it is told. */
export class Recorder {
  constructor(url, options) {
    Object.assign(this, { hellos: [], events: [], gaps: [], closes: [], errors: [], pauses: [] });
    this.client = new GatewayClient({
      url,
      clientName: "cli",
      mode: "cli",
      clientVersion: "stock",
      platform: "linux",
      role: "operator",
      scopes: ["operator.read", "operator.write", "operator.admin"],
      onHelloOk: (hello) => this.hellos.push(hello),
      onEvent: (event) => this.events.push(event),
      onGap: (gap) => this.gaps.push(gap),
      onClose: (code, reason) => this.closes.push({ code, reason }),
      onConnectError: (error) => this.errors.push(error),
      onReconnectPaused: (info) => this.pauses.push(info),
      ...options,
    });
    this.client.start();
  }

  request(method, params = {}) {
    return this.client.request(method, params);
  }

  connected(times) {
    return until(`connection ${times}`, CONNECT_S, () => {
      if (this.hellos.length < times && this.pauses.length > 0) throw this.errors.at(-1);
      return this.hellos.length >= times && this.hellos.at(-1);
    });
  }

  /** The payloads of one event, of one run. */
  of(name, runId) {
    return this.events.filter((e) => e.event === name && e.payload?.runId === runId).map((e) => e.payload);
  }

  final(runId) {
    return until(`the final chat event of ${runId}`, TURN_S, () =>
      this.of("chat", runId).find((chat) => ["final", "error", "aborted"].includes(chat.state)),
    );
  }
}

const text = (message) =>
  typeof message?.content === "string"
    ? message.content
    : (message?.content ?? []).map((part) => part.text ?? "").join("");

/** A device as the stock client wants it from its host: key, signature, and a place for the token it is given. */
function device() {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
  const tokens = new Map();
  return {
    tokens,
    deviceIdentity: {
      deviceId: createHash("sha256").update(raw).digest("hex"),
      privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }),
      publicKeyPem: publicKey.export({ type: "spki", format: "pem" }),
    },
    hostDeps: {
      signDevicePayload: (pem, payload) => sign(null, Buffer.from(payload), pem).toString("base64url"),
      publicKeyRawBase64UrlFromPem: () => raw.toString("base64url"),
      loadDeviceAuthToken: ({ role }) => tokens.get(role) ?? null,
      storeDeviceAuthToken: ({ role, token, scopes }) => tokens.set(role, { token, scopes }),
      clearDeviceAuthToken: ({ role }) => tokens.delete(role),
    },
  };
}

async function history(client) {
  const { messages } = await client.request("chat.history", { sessionKey: SESSION, limit: 100 });
  return messages.map((row) => ({ role: row.role, text: text(row) }));
}

const send = (client, message, idempotencyKey = randomUUID()) =>
  client.request("chat.send", { sessionKey: SESSION, message, idempotencyKey });

/** Makes the stock client known; recorders need it. */
export async function loadClient({ stock }) {
  const resolve = createRequire(pathToFileURL(`${stock}/gc/`)).resolve;
  ({ GatewayClient } = await import(pathToFileURL(resolve("@openclaw/gateway-client"))));
}

export async function checkGatewayClient(env) {
  await loadClient(env);
  const gateway = await Gateway.start(env, "gateway-client");
  const clients = [];
  const open = (options) => {
    const client = new Recorder(gateway.url, { token: gateway.token, ...options });
    clients.push(client);
    return client;
  };
  const one = (name, body) => check(`gateway-client: ${name}`, body, () => gateway.log());
  try {
    const client = open();
    await talk(client, one);
    await survive(client, gateway, one);
    await devices(open, gateway, one);
  } finally {
    for (const { client } of clients) client.stop();
  }
  await one("SIGTERM ends the gateway with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0, "exit code 0", code);
    expect(gateway.panics() === 0, "no panic in the log");
  });
}

async function talk(client, one) {
  await one("connects with the shared token", async () => {
    const hello = await client.connected(1);
    expect(hello.protocol === 4, "protocol 4", hello.protocol);
    for (const name of ["health", "sessions.list", "chat.send", "chat.history"]) {
      expect(hello.features.methods.includes(name), `${name} among features.methods`);
    }
  });
  await one("health and sessions.list", async () => {
    const [health, list] = await Promise.all([client.request("health"), client.request("sessions.list")]);
    expect(health.ok === true, "health says ok", health);
    expect(list.sessions.length === 0 && list.count === 0, "no session yet", list.sessions);
  });
  await one("a method that is not there is an error, and the connection stays", async () => {
    const error = await client.request("no.such.method").then(() => null, (failure) => failure);
    expect(/unknown method: no\.such\.method/.test(error?.message), "unknown method", error?.message);
    expect(client.closes.length === 0, "no close", client.closes);
  });
  await one("a chat.send turn: deltas, then the final with their text", async () => {
    await client.request("sessions.subscribe");
    const { runId, status } = await send(client, "hello from npm");
    expect(status === "started", "status started", status);
    const final = await client.final(runId);
    expect(final.state === "final", "state final", final);
    expect(text(final.message).endsWith("hello from npm"), "the offline model's reply", final.message);
    const deltas = client.of("chat", runId).filter((chat) => chat.state === "delta");
    expect(deltas.length > 1, "several deltas", deltas.length);
    const joined = deltas.map((delta) => delta.deltaText).join("");
    expect(joined === text(final.message), "the deltas make up the final text", joined);
    expect(client.of("agent", runId).some((e) => e.stream === "lifecycle" && e.data.phase === "end"), "agent lifecycle end");
    await until("session.message of both sides", 5, () => {
      const said = client.events.filter((e) => e.event === "session.message" && e.payload.sessionKey === SESSION);
      return ["user", "assistant"].every((role) => said.some((e) => e.payload.message?.role === role));
    });
  });
  await one("the same idempotencyKey is not run twice", async () => {
    const key = randomUUID();
    const first = await send(client, "once", key);
    expect(first.runId === key, "runId is the idempotencyKey", first);
    const again = await send(client, "once", key);
    expect(again.status === "in_flight", "status in_flight", again);
    await client.final(key);
    const later = await send(client, "once", key);
    expect(later.status === "ok", "status ok", later);
    const said = (await history(client)).filter((row) => row.text === "once");
    expect(said.length === 1, "said once", said);
  });
  await one("no gap in the events' seq", () => expect(client.gaps.length === 0, "no gap", client.gaps));
}

async function survive(client, gateway, one) {
  let before;
  let cut;
  await one("after kill -9 in the middle of a turn it reconnects by itself", async () => {
    before = await history(client);
    expect(before.length === 4, "two turns so far", before);
    cut = (await send(client, LONG)).runId;
    await until("the first words", TURN_S, () => client.of("chat", cut).some((chat) => chat.state === "delta"));
    await gateway.kill();
    await until("the client has seen the end", 10, () => client.closes.length > 0);
    expect(client.of("chat", cut).every((chat) => chat.state !== "final"), "the turn was not over");
    await gateway.start();
    await client.connected(2);
  });
  await one("it is answered again", async () => {
    expect((await client.request("health")).ok === true, "health says ok");
    const { sessions } = await client.request("sessions.list");
    expect(sessions.some((row) => row.key === SESSION), "the session is there", sessions);
  });
  await one("the history is still there, and the cut turn is settled without being said twice", async () => {
    const rows = await until("a reply after the kill", TURN_S, async () => {
      const now = await history(client);
      const { sessions } = await client.request("sessions.list");
      return !sessions.some((row) => row.hasActiveRun) && now.at(-1).role === "assistant" && now;
    });
    expect(JSON.stringify(rows.slice(0, 4)) === JSON.stringify(before), "the turns before", rows);
    expect(rows.filter((row) => row.role === "user" && row.text === LONG).length === 1, "the message once", rows);
  });
  await one("repeating the request that was cut does not run it again", async () => {
    const count = (await history(client)).length;
    const again = await send(client, LONG, cut);
    expect(again.status === "ok", "status ok", again);
    expect((await history(client)).length === count, "no new row");
  });
  await one("a turn on the new connection", async () => {
    await client.request("sessions.subscribe");
    const { runId } = await send(client, "still there?");
    const final = await client.final(runId);
    expect(text(final.message).endsWith("still there?"), "a reply", final);
    expect(client.gaps.length === 0, "no gap", client.gaps);
  });
}

async function devices(open, gateway, one) {
  const host = device();
  const { deviceIdentity, hostDeps, tokens } = host;
  await one("a signed device is paired on loopback and given a token", async () => {
    const client = open({ deviceIdentity, hostDeps });
    const hello = await client.connected(1);
    expect(tokens.get("operator")?.token === hello.auth.deviceToken && hello.auth.deviceToken, "a device token", hello.auth);
  });
  await one("that token alone connects, also after kill -9", async () => {
    await gateway.kill();
    await gateway.start();
    const client = open({ token: undefined, deviceIdentity, hostDeps, scopes: tokens.get("operator").scopes });
    await client.connected(1);
    expect((await client.request("sessions.list")).count === 1, "it may read");
  });
  await one("a wrong token is refused, with the code that stops the client", async () => {
    const client = open({ token: "wrong" });
    const pause = await until("a refusal", CONNECT_S, () => client.pauses[0]);
    expect(pause.detailCode === "AUTH_TOKEN_MISMATCH" && pause.code === 1008, "AUTH_TOKEN_MISMATCH, 1008", pause);
  });
}
