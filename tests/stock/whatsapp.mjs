// The WhatsApp bridge with the real Baileys: a code to scan, and a supervisor that starts it again.
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { check, expect, until } from "./checks.mjs";
import { Gateway } from "./gateway.mjs";
import { WhatsAppServer } from "./whatsapp/server.mjs";

const BACK_S = 30;
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export async function checkWhatsApp(env) {
  const folder = `${env.stock}/wa`;
  const server = await WhatsAppServer.start(folder);
  const baileys = createRequire(pathToFileURL(`${folder}/`)).resolve("baileys");
  const real = {
    BAILEYS: `${ROOT}tests/stock/whatsapp/baileys.mjs`,
    BAILEYS_REAL: pathToFileURL(baileys).href,
    WHATSAPP_URL: server.url,
    WHATSAPP_ROOT: Buffer.from(server.root.public).toString("hex"),
  };
  const bridge = `${ROOT}examples/whatsapp-bridge/bridge.mjs`;
  const gateway = await Gateway.start(env, "whatsapp-gateway", { channels: { whatsapp: { bridge, driver: { env: real } } } });
  const one = (name, body) => check(`whatsapp: ${name}`, body, () => [gateway.log(), ...server.problems].join("\n"));
  // Not `gateway.call`, which waits: WhatsApp is in this process.
  const call = async (method, params = {}) => {
    const args = ["--timeout-ms", "20000", "--json", "call", method, JSON.stringify(params)];
    return JSON.parse((await promisify(execFile)(gateway.binary, args, { env: gateway.env })).stdout);
  };
  const shows = async () => {
    const { connected, qrDataUrl } = await call("web.login.start", { timeoutMs: 15_000 });
    expect(!connected && qrDataUrl?.startsWith("data:image/png;base64,"), "a code to scan", qrDataUrl);
  };
  const account = async () => (await call("channels.status")).channelAccounts.whatsapp[0];
  try {
    await one("the bridge starts with the real Baileys, and web.login.start shows its code", async () => {
      await shows();
      expect(server.linked >= 1, "it came through the handshake");
    });
    await one("killed, it is started again by its supervisor, and shows a code again", async () => {
      const before = (await account()).lastStartAt;
      const linked = server.linked;
      process.kill(bridgeOf(gateway), "SIGKILL");
      await until("it is started again", BACK_S, async () => {
        return (await account()).lastStartAt > before && server.linked > linked;
      });
      await shows();
    });
    await one("the gateway ends with code 0, and no part of it ever panicked", async () => {
      const code = await gateway.stop();
      expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
    });
  } finally {
    server.stop();
  }
}

/** The process of the bridge: below the gateway, and Node's. */
function bridgeOf(gateway) {
  const found = below(gateway.child.pid).find(({ args }) => /^\S*node\S* .*bridge\.mjs/.test(args));
  expect(found, "the bridge runs", below(gateway.child.pid).map(({ args }) => args));
  return found.pid;
}

function below(parent) {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
  const children = pids.filter((pid) => parentOf(pid) === parent);
  return children.flatMap((pid) => [{ pid, args: read(pid, "cmdline").replaceAll("\0", " ") }, ...below(pid)]);
}

/** After the name, which may be anything. */
const parentOf = (pid) => Number(read(pid, "stat").replace(/^.*\) \S+ /s, "").split(" ")[0]);

function read(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}
