// Tools in turns, as the stock clients follow them: a command that a person has to agree to, in the CLI and in the
// Control UI.
import { existsSync, readFileSync } from "node:fs";
import { check, expect, until } from "./checks.mjs";
import { Browser, TURN_S } from "./browser.mjs";
import { Cli, START_S } from "./cli.mjs";
import { Gateway } from "./gateway.mjs";

const MAIN = "agent:main:main";

export async function checkTools(env) {
  const gateway = await Gateway.start(env, "tools-gateway", { tools: { exec: { ask: "always" } } });
  const cli = new Cli(env, "tools-cli", { url: gateway.url, token: gateway.token });
  const one = (name, body) => check(`tools: ${name}`, body, () => gateway.log());
  const file = (name) => `${gateway.state}/workspace/${name}`;
  await inCli(cli, one, file);
  await inUi(env, gateway, cli, one, file);
  await check("tools: the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  }, () => gateway.log());
}

/** Has the agent run a command. */
function wish(cli, command, key) {
  const message = `/tool exec ${JSON.stringify({ command })}`;
  return cli.call("chat.send", { sessionKey: MAIN, message, idempotencyKey: key });
}

async function inCli(cli, one, file) {
  await one("openclaw approvals pending shows the command of a turn, and resolve has it run", async () => {
    await wish(cli, "echo by the CLI > by-cli", "cli-1");
    let pending;
    await until("the request", START_S, async () => {
      pending = await cli.ok("approvals", "pending", "--json");
      return pending.includes("echo by the CLI");
    });
    expect(!existsSync(file("by-cli")), "nothing runs before the answer");
    const [{ id, request }] = await cli.call("exec.approval.list");
    expect(pending.includes(id) && request.sessionKey === MAIN, "the same request", pending);
    await cli.ok("approvals", "resolve", id, "allow-once");
    const done = await cli.call("agent.wait", { runId: "cli-1", timeoutMs: 20_000 });
    expect(done.status === "ok", "the turn ends", done);
    expect(readFileSync(file("by-cli"), "utf8") === "by the CLI\n", "the command has run");
  });
  await one("openclaw approvals resolve deny: it does not run, and the agent is told", async () => {
    await wish(cli, "touch denied", "cli-2");
    const [{ id }] = await until("the request", START_S, async () => {
      const waiting = await cli.call("exec.approval.list");
      return waiting.length > 0 && waiting;
    });
    await cli.ok("approvals", "resolve", id, "deny");
    const done = await cli.call("agent.wait", { runId: "cli-2", timeoutMs: 20_000 });
    const { messages } = await cli.call("chat.history", { sessionKey: MAIN, limit: 10 });
    const result = messages.findLast(({ role }) => role === "toolResult");
    expect(done.status === "ok" && /^Denied: a person/.test(result.content[0].text), "the reason", result);
    expect(!existsSync(file("denied")), "nothing has run");
  });
}

async function inUi(env, gateway, cli, one, file) {
  const browser = await check("tools: Chromium starts", () => Browser.open(env, gateway), () => gateway.log());
  if (!browser) return;
  const { page } = browser;
  try {
    await one("the Control UI shows a card for the command, and its button has it run", async () => {
      await browser.login();
      await wish(cli, "echo by the page > by-page", "ui-1");
      await browser.shows("echo by the page");
      expect(!existsSync(file("by-page")), "nothing runs before the answer");
      await browser.keep("approval");
      try {
        await page.getByRole("button", { name: /allow once/i }).first().click();
        await until("the command has run", TURN_S, () => existsSync(file("by-page")));
        await browser.shows(/exec says: \(no output\)|by the page/);
        await browser.idle();
      } catch (error) {
        await browser.shot();
        throw error;
      }
    });
    await one("the card is gone, and the page complains about nothing", async () => {
      await page.getByRole("button", { name: /allow once/i }).first().waitFor({ state: "detached" });
      const complaint = await browser.complaint();
      expect(!complaint && browser.refused.length === 0, "no complaint", complaint ?? browser.refused);
    });
  } finally {
    await browser.close();
  }
}
