// Stock clients and a browser over TLS, with a certificate that the gateway has made itself.
import { Browser } from "./browser.mjs";
import { check, expect, sleep, until } from "./checks.mjs";
import { Cli, START_S } from "./cli.mjs";
import { Gateway, cleanEnv } from "./gateway.mjs";

const CONFIG = { gateway: { tls: { enabled: true } } };
const WRONG = "0".repeat(64);

export async function checkTls(env) {
  const gateway = await Gateway.start(env, "tls-gateway", CONFIG);
  const one = (name, body) => check(`tls: ${name}`, body, () => gateway.log());
  const pin = gateway.run("tls", "fingerprint").trim();
  const remote = { url: gateway.url, token: gateway.token };
  await cli(env, gateway, { ...remote, tlsFingerprint: pin }, one);
  await strangers(env, remote, one);
  await node(env, gateway, pin, one);
  await page(env, gateway, one);
  await one("SIGTERM ends the gateway with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", [code, gateway.panics()]);
  });
}

async function cli(env, gateway, remote, one) {
  const cli = new Cli(env, "tls-cli", remote);
  await one("the CLI is answered over wss, with gateway.remote.tlsFingerprint", async () => {
    const health = await cli.json("health", "--json");
    expect(health.ok === true && health.reach.tls.fingerprint === remote.tlsFingerprint, "ok, and the fingerprint", health);
  });
  await one("agent --message prints the reply", async () => {
    const printed = await cli.ok("agent", "--message", "hello");
    expect(/: hello$/.test(printed.trim()), "the offline model's reply", printed);
  });
  await one("after a restart the certificate is the same", async () => {
    await gateway.kill();
    await gateway.start();
    expect((await cli.json("health", "--json")).ok === true, "health says ok");
  });
}

/** What the CLI says where it does not connect. */
async function refused(env, name, remote) {
  const { code, out, err } = await new Cli(env, name, remote).run("health", "--json");
  expect(code !== 0, "an exit code that is not 0", `${code}, ${out}${err}`);
  return out + err;
}

async function strangers(env, remote, one) {
  await one("a wrong fingerprint is refused", async () => {
    const told = await refused(env, "tls-wrong", { ...remote, tlsFingerprint: WRONG });
    expect(/fingerprint/i.test(told), "the reason", told);
  });
  await one("without a fingerprint nobody vouches for the certificate", async () => {
    const told = await refused(env, "tls-unpinned", remote);
    expect(/self.signed|certificate|unable to verify/i.test(told), "the reason", told);
  });
}

async function node(env, gateway, pin, one) {
  await one("node run --tls --tls-fingerprint connects", async () => {
    const cli = new Cli(env, "tls-node", { url: gateway.url, token: gateway.token, tlsFingerprint: pin });
    const variables = { OPENCLAW_STATE_DIR: `${cli.home}/state`, OPENCLAW_GATEWAY_TOKEN: gateway.token };
    Object.defineProperty(cli, "env", { value: cleanEnv(cli.home, variables) });
    const address = ["--host", "127.0.0.1", "--port", String(gateway.port), "--tls", "--tls-fingerprint", pin];
    const child = cli.spawn(["node", "run", ...address, "--display-name", "Sealed"]);
    const ended = new Promise((done) => child.once("close", done));
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += chunk));
    try {
      await until("the gateway knows the node", START_S, async () => {
        // Each look is a program of its own.
        await sleep(500);
        const { nodes } = gateway.call("node.list");
        return nodes.some((node) => node.displayName === "Sealed" && node.connected);
      });
    } catch (error) {
      throw new Error(`${error.message}\n${said}`);
    } finally {
      child.kill("SIGTERM");
      const late = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await ended;
      clearTimeout(late);
    }
  });
}

async function page(env, gateway, one) {
  const browser = await one("Chromium starts", () => Browser.open(env, gateway));
  if (!browser) return;
  try {
    await one("the Control UI works over https, in a secure context", async () => {
      await browser.login();
      expect(await browser.page.evaluate(() => isSecureContext), "a secure context");
    });
    await one("our own page, too", async () => {
      await browser.page.goto(`${gateway.origin}/crabtree/`);
      await browser.page.getByLabel("Gateway secret").fill(gateway.token);
      await browser.page.keyboard.press("Enter");
      await browser.shows(/crabtree\/offline|main/);
      expect(browser.errors.length === 0, "no error", browser.errors);
      expect(browser.strangers.length === 0, "nobody else asked", browser.strangers);
    });
  } finally {
    await browser.close();
  }
}
