// Devices: the stock CLI pairs them and takes their rights back, and so does the Control UI's page.
import { Browser } from "./browser.mjs";
import { check, expect, until } from "./checks.mjs";
import { Cli } from "./cli.mjs";
import { ANSWER_S, Device } from "./device.mjs";
import { Gateway } from "./gateway.mjs";

/** No device of this machine is paired without being asked about. */
const ASKING = { gateway: { nodes: { pairing: { autoApproveLocal: false } } } };

export async function checkDevices(env) {
  const gateway = await Gateway.start(env, "devices-gateway", ASKING);
  const cli = new Cli(env, "devices-cli", { url: gateway.url, token: gateway.token });
  const one = (name, body) => check(`devices: ${name}`, body, () => gateway.log());
  await pair(gateway, cli, one);
  await unpair(gateway, cli, one);
  await inUi(env, gateway, one);
  await check("devices: the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  }, () => gateway.log());
}

async function pair(gateway, cli, one) {
  const device = new Device(gateway);
  const shared = { token: gateway.token };
  await one("openclaw devices list shows who asks, and approve lets it in", async () => {
    const request = await device.ask();
    const list = await cli.json("devices", "list", "--json");
    expect(list.pending[0]?.requestId === request && list.pending[0].deviceId === device.id, "its request", list);
    const page = await cli.ok("devices", "list");
    expect(page.includes(request.slice(0, 8)) || page.includes(device.id.slice(0, 8)), "its request, for people", page);
    await cli.ok("devices", "approve", request);
    const { hello } = await device.connect(shared);
    expect(/^[\w-]{43}$/.test(hello?.auth.deviceToken), "a token", hello?.auth);
    device.token = hello.auth.deviceToken;
  });
  await one("the device comes back with its token, and the list shows that", async () => {
    const { hello } = await device.connect({ deviceToken: device.token });
    expect(hello?.auth.method === "device-token", "let in by its token", hello?.auth);
    const { paired, pending } = await cli.json("devices", "list", "--json");
    const row = paired.find(({ deviceId }) => deviceId === device.id);
    expect(row?.connected === true && pending.length === 0 && row.tokens[0].lastUsedAtMs > 0, "connected", row);
    expect(!JSON.stringify(paired).includes(device.token), "no token in the list");
  });
  await one("openclaw devices reject refuses another", async () => {
    const other = new Device(gateway);
    const request = await other.ask();
    await cli.ok("devices", "reject", request);
    const { pending, paired } = await cli.json("devices", "list", "--json");
    expect(pending.length === 0 && paired.length === 1, "nobody waits, one is paired", { pending, paired });
    expect((await other.ask()) !== request, "it has to ask anew");
  });
  await one("openclaw devices approve and reject of nothing fail as they should", async () => {
    for (const command of ["approve", "reject"]) {
      const { code, out, err } = await cli.run("devices", command, "nosuch");
      expect(code === 1 && /unknown requestId|no.*pending|not found/i.test(out + err), "exit code 1 and the reason", out + err);
    }
  });
}

async function unpair(gateway, cli, one) {
  const device = new Device(gateway);
  const shared = { token: gateway.token };
  const of = (command) => ["devices", command, "--device", device.id, "--role", "operator"];
  const gone = async (outcome) => {
    await until("the end of its connection", ANSWER_S, () => outcome.closed);
    expect(outcome.closed.code === 4001 && outcome.closed.reason === "device removed", "why", outcome.closed);
  };
  await one("openclaw devices rotate ends the device's connections and its old token", async () => {
    await cli.ok("devices", "approve", await device.ask());
    const live = await device.connect(shared);
    const old = live.hello.auth.deviceToken;
    await cli.ok(...of("rotate"));
    await gone(live);
    const { error } = await device.connect({ deviceToken: old });
    expect(error?.details.code === "AUTH_DEVICE_TOKEN_MISMATCH", "the old token is dead", error);
    const again = await device.connect(shared);
    expect(again.hello && again.hello.auth.deviceToken !== old, "a new token", again.hello?.auth);
  });
  await one("openclaw devices revoke takes the role", async () => {
    const live = await device.connect(shared);
    await cli.ok(...of("revoke"));
    await gone(live);
    const { error } = await device.connect(shared);
    expect(error?.details.reason === "role-upgrade", "it has to be approved again", error);
  });
  await one("openclaw devices remove forgets it", async () => {
    await cli.ok("devices", "remove", device.id);
    const { error } = await device.connect(shared);
    expect(error?.details.reason === "not-paired", "as new as any", error);
    const { paired } = await cli.json("devices", "list", "--json");
    expect(!paired.some(({ deviceId }) => deviceId === device.id), "it is not in the list", paired);
    await cli.ok("devices", "reject", error.details.requestId);
  });
  await one("openclaw devices rotate, revoke and remove of nobody fail as they should", async () => {
    for (const command of [of("rotate"), of("revoke"), ["devices", "remove", "nosuch"]]) {
      const { code, out, err } = await cli.run(...command);
      expect(code === 1, `exit code 1 of ${command[1]}`, out + err);
    }
  });
}

async function inUi(env, gateway, one) {
  const browser = await check("devices: Chromium starts", () => Browser.open(env, gateway), () => gateway.log());
  if (!browser) return;
  const { page } = browser;
  try {
    await one("the Control UI's own device waits, and comes in once it is approved", async () => {
      const admin = new Cli(env, "devices-ui", { url: gateway.url, token: gateway.token });
      const login = browser.login().catch((error) => error);
      const request = await until("the page asks", ANSWER_S, async () => {
        const { pending } = await admin.json("devices", "list", "--json");
        return pending.find(({ clientId }) => clientId === "openclaw-control-ui")?.requestId;
      });
      await admin.ok("devices", "approve", request);
      await login;
      await browser.shows("Connected");
    });
    await one("its page of devices shows who asks, and its button approves", async () => {
      const device = new Device(gateway);
      const request = await device.ask();
      try {
        await browser.goto("/settings/devices");
        await browser.shows(/approve/i);
        await browser.keep("devices-request");
        await page.getByRole("button", { name: /^approve/i }).first().click();
        const { hello } = await until("it is paired", ANSWER_S, async () => {
          const outcome = await device.connect({ token: gateway.token });
          return outcome.hello && outcome;
        });
        expect(hello.auth.deviceToken, "a token", request);
      } catch (error) {
        await browser.shot();
        throw error;
      }
    });
  } finally {
    await browser.close();
  }
}
