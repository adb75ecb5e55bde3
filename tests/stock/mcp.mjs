// MCP servers from npm as a gateway's own: `@modelcontextprotocol/server-everything`, as a process and over HTTP.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { check, expect, until } from "./checks.mjs";
import { cleanEnv, freePort, Gateway, track } from "./gateway.mjs";

const START_S = 30;
const GONE_S = 10;

const text = (done) => done.output?.content?.map((part) => part.text ?? `[${part.type}]`).join("\n");

const lives = (pid) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** A stock client, as far as it is needed here. */
async function connect(env, gateway) {
  const resolve = createRequire(pathToFileURL(`${env.stock}/gc/`)).resolve;
  const { GatewayClient } = await import(pathToFileURL(resolve("@openclaw/gateway-client")));
  let greeted;
  const hello = new Promise((done) => (greeted = done));
  const client = new GatewayClient({
    url: gateway.url,
    token: gateway.token,
    clientName: "cli",
    mode: "cli",
    clientVersion: "stock",
    platform: "linux",
    role: "operator",
    scopes: ["operator.read", "operator.write", "operator.admin"],
    onHelloOk: greeted,
  });
  client.start();
  await hello;
  return client;
}

export async function checkMcp(env) {
  const program = `${env.stock}/mcp/node_modules/@modelcontextprotocol/server-everything/dist/index.js`;
  const port = await freePort();
  const gateway = await Gateway.start(env, "mcp", {
    mcp: {
      servers: {
        everything: { command: process.execPath, args: [program, "stdio"] },
        remote: { url: `http://127.0.0.1:${port}/mcp`, transport: "streamable-http" },
      },
    },
    gateway: { tools: { allow: ["everything__*", "remote__*"] } },
  });
  const client = await connect(env, gateway);
  const one = (name, body) => check(`mcp: ${name}`, body, () => gateway.log());
  try {
    await local(client, one);
    await remote(client, one, { env, gateway, program, port });
    await killed(client, one, gateway);
  } finally {
    client.stop();
  }
}

const ids = async (client) => {
  const { groups } = await client.request("tools.catalog", {});
  return groups.flatMap((group) => group.tools.map((tool) => tool.id));
};
const invoke = (client, name, args) => client.request("tools.invoke", { name, args });
const there = (client, tool, is = true) =>
  until(`${tool} is ${is ? "" : "not "}there`, START_S, async () => (await ids(client)).includes(tool) === is);

/** The process of the server, as the gateway tells operators. */
async function pid(client) {
  const { root } = await client.request("system.actors", { depth: 3 });
  const agents = root.children.find((child) => child.name === "agents");
  return agents.children.find((child) => child.name === "mcp:everything").info.pid;
}

async function local(client, one) {
  await one("its tools are in the catalog", async () => {
    await there(client, "everything__echo");
    const { groups } = await client.request("tools.catalog", {});
    const group = groups.find((group) => group.tools.some((tool) => tool.id === "everything__get-sum"));
    expect(group.source === "plugin" && group.tools.length > 8, "a group of their own", group);
  });
  await one("they are called: words, sums, structure, pictures", async () => {
    const echo = await invoke(client, "everything__echo", { message: "hello" });
    expect(/hello/.test(text(echo)) && echo.source === "mcp", "the words", echo);
    const sum = await invoke(client, "everything__get-sum", { a: 19, b: 23 });
    expect(/42/.test(text(sum)), "the sum", sum);
    const weather = await invoke(client, "everything__get-structured-content", { location: "Chicago" });
    expect(typeof weather.output.details.temperature === "number", "structured content", weather);
    const image = await invoke(client, "everything__get-tiny-image", {});
    expect(image.output.content.some((part) => part.type === "image" && part.data), "a picture", image);
  });
  await one("wrong arguments do not reach it", async () => {
    const { error } = await invoke(client, "everything__get-sum", { a: "x" });
    expect(error.code === "invalid_request", "invalid_request", error);
  });
  await one("after kill -9 only its tools are gone, and they come back", async () => {
    const before = await pid(client);
    const others = (await ids(client)).filter((id) => !id.startsWith("everything__"));
    process.kill(before, "SIGKILL");
    await until("another process", START_S, async () => {
      const now = await ids(client);
      expect(others.every((id) => now.includes(id)), "the other tools", now);
      const after = await pid(client).catch(() => null);
      return after && after !== before;
    });
    await there(client, "everything__echo");
    expect(/again/.test(text(await invoke(client, "everything__echo", { message: "again" }))), "it answers");
  });
}

async function remote(client, one, { env, gateway, program, port }) {
  const start = () =>
    track(
      spawn(process.execPath, [program, "streamableHttp"], {
        env: cleanEnv(gateway.dir, { PORT: String(port) }),
        stdio: "ignore",
      }),
      env.work,
    );
  let server;
  await one("a server over HTTP that is started late is found by itself", async () => {
    expect(!(await ids(client)).includes("remote__echo"), "nothing yet");
    server = start();
    await there(client, "remote__echo");
    const echo = await invoke(client, "remote__echo", { message: "from afar" });
    expect(/from afar/.test(text(echo)), "the words", echo);
  });
  await one("when it is gone a call says so", async () => {
    server.kill("SIGKILL");
    await until("its end", GONE_S, () => !lives(server.pid));
    const { error } = await invoke(client, "remote__echo", { message: "x" });
    expect(/cannot be reached|not available/i.test(error.message), "an error", error);
    expect((await ids(client)).includes("everything__echo"), "the other server's tools stay");
  });
}

async function killed(client, one, gateway) {
  await one("no server outlives a gateway that was killed", async () => {
    const server = await pid(client);
    expect(lives(server), "it lives", server);
    await gateway.kill();
    await until("the end of the server", GONE_S, () => !lives(server));
  });
}
