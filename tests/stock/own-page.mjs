// Our own page, in a headless Chromium, as its owner uses it.
import { existsSync } from "node:fs";
import { Browser, TURN_S } from "./browser.mjs";
import { check, expect, until } from "./checks.mjs";
import { ANSWER_S, Device } from "./device.mjs";
import { Gateway } from "./gateway.mjs";

const CONFIG = {
  tools: { exec: { ask: "always" } },
  gateway: { chaos: { enabled: true }, nodes: { pairing: { autoApproveLocal: false } } },
};
/** Some seconds of an answer, at 20 ms a word. */
const LONG = `${"so it goes ".repeat(40)}and that was it`;
/** Much longer than anybody waits. */
const ENDLESS = "and so on ".repeat(300).trim();
const PHONE = { width: 360, height: 740 };
/** The page and all its files, as they come over the wire. */
const MOST_BYTES = 200_000;

export async function checkOwnPage(env) {
  const gateway = await Gateway.start(env, "own-page-gateway", CONFIG);
  const one = (name, body) => check(`own page: ${name}`, body, () => gateway.log());
  const browser = await one("Chromium starts", () => Browser.at(env, gateway));
  if (!browser) return;
  const page = new OwnPage(browser, gateway, (name, body) => one(name, () => page.shooting(body)));
  try {
    await page.login();
    await page.chat();
    await page.approve();
    await page.tree();
    await page.devices();
    await page.look();
    await page.survive();
    await page.fit();
    await one("it had no error, asked nobody else, and was refused nothing", () => {
      const refused = browser.refused.filter((told) => !/unauthorized|pairing required|^invalid config: session.dmScope/i.test(told));
      const found = [...browser.errors, ...browser.strangers, ...refused];
      expect(found.length === 0, "nothing", found);
    });
  } finally {
    await browser.close();
  }
  await one("the gateway ends with code 0, and nothing panicked but what was made to", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no other panic in the log", [code, gateway.panics()]);
  });
}

/** In the page: what it and its files weighed on the wire, and when something was to be seen. */
function weigh() {
  const loads = ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind));
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return { bytes: loads.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0), paint: paint.startTime };
}

class OwnPage {
  constructor(browser, gateway, one) {
    Object.assign(this, { browser, gateway, one, page: browser.page });
  }

  async shooting(body) {
    try {
      return await body();
    } catch (error) {
      await this.browser.shot();
      throw error;
    }
  }

  /** Opens one of its pages by its link. */
  async open(name) {
    await this.page.locator("nav").getByRole("link", { name }).click();
    await this.page.getByRole("heading", { level: 1 }).waitFor();
  }

  up() {
    return this.page.locator("#state.up").waitFor();
  }

  async login() {
    const { page, browser, gateway } = this;
    await this.one("it is there at once, and weighs little", async () => {
      await browser.goto("/");
      await page.getByLabel("Gateway secret").waitFor();
      const { bytes, paint } = await page.evaluate(weigh);
      console.log(`     ${bytes} bytes over the wire, first paint after ${Math.round(paint)} ms`);
      expect(bytes > 5_000 && bytes < MOST_BYTES, `fewer than ${MOST_BYTES} bytes`, bytes);
    });
    await this.one("it asks for the secret, and says why a wrong one is refused", async () => {
      await page.setViewportSize({ width: 1280, height: 800 });
      await browser.goto("/");
      await browser.shows("Connect to this gateway");
      await page.getByLabel("Gateway secret").fill("wrong");
      await page.keyboard.press("Enter");
      await browser.shows(/unauthorized: .*token/i);
    });
    await this.one("with the right one this browser waits to be approved, and comes in by itself then", async () => {
      await page.getByLabel("Gateway secret").fill(gateway.token);
      await page.getByRole("button", { name: "Connect" }).click();
      await browser.shows(/waits for approval/);
      const said = await page.locator("#state").textContent();
      gateway.run("devices", "approve", /approve (\S+)/.exec(said)[1]);
      await this.up();
    });
    await this.one("it is let in again without the secret, which stands nowhere", async () => {
      await page.reload();
      await this.up();
      const kept = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage, location.href]));
      expect(!kept.includes(gateway.token), "no secret", kept);
    });
  }

  said(owner) {
    return this.page.locator(`.said > .${owner}`);
  }

  async say(text) {
    await this.page.getByLabel("Message", { exact: true }).fill(text);
    await this.page.getByLabel("Message", { exact: true }).press("Enter");
  }

  /** Waits until the last answer fits. */
  async answers(pattern) {
    await this.browser.until(`an answer like ${pattern}`, TURN_S, async () => {
      const all = await this.said("assistant").allTextContents();
      return pattern.test(all.at(-1) ?? "");
    });
  }

  idle() {
    return this.page.getByRole("button", { name: "Stop" }).waitFor({ state: "hidden" });
  }

  async chat() {
    const { page } = this;
    await this.one("an answer streams in, and its Markdown is shown as such", async () => {
      await this.say(`**loud** \`code\` <b>no</b> ${LONG}`);
      await this.answers(/\(turn 1\): .*so it goes(?!.*and that was it)/s);
      expect(await page.getByRole("button", { name: "Stop" }).isVisible(), "a button that stops it");
      await this.answers(/and that was it$/);
      await this.idle();
      const answer = this.said("assistant").last();
      expect((await answer.locator("strong").textContent()) === "loud", "bold words");
      expect((await answer.locator("b").count()) === 0, "no markup from a message");
    });
    await this.one("Stop ends an answer, and what was said stays", async () => {
      await this.say(ENDLESS);
      await this.answers(/\(turn 2\): and so on and so on/);
      await page.getByRole("button", { name: "Stop" }).click();
      await this.idle();
      await this.answers(/^.*\(turn 2\): and so on/s);
      const text = await this.said("assistant").last().textContent();
      expect(text.length < ENDLESS.length, "a part of the answer", text.length);
    });
    await this.one("a slash command is offered and answered", async () => {
      await page.getByLabel("Message", { exact: true }).fill("/sta");
      await page.getByRole("button", { name: "/status" }).click();
      await page.getByRole("button", { name: "Send" }).click();
      await this.answers(/Crabtree \d.*Model: crabtree/s);
    });
    await this.one("the conversation is the same after a reload", async () => {
      const all = () => page.locator(".said > *").allTextContents();
      await this.idle();
      const before = await all();
      await page.reload();
      await this.browser.until("the conversation from before", TURN_S, async () => JSON.stringify(await all()) === JSON.stringify(before));
      expect(before.length === 6, "three questions and three answers", before);
    });
  }

  async approve() {
    const { page, gateway } = this;
    await this.one("a command that waits is a card in its chat, is counted, and runs when it is allowed", async () => {
      const file = `${gateway.state}/workspace/by-our-page`;
      await this.say(`/tool exec ${JSON.stringify({ command: "echo so > by-our-page" })}`);
      await page.locator(".chat .approval pre").getByText("echo so").waitFor();
      await page.locator("nav .badge").getByText("1").waitFor();
      expect(!existsSync(file), "nothing runs before the answer");
      await page.getByRole("button", { name: "Allow once" }).click();
      await until("the command has run", TURN_S, () => existsSync(file));
      await page.locator(".approval").waitFor({ state: "detached" });
      await this.idle();
    });
    await this.one("on the page of approvals it is denied, and the agent is told", async () => {
      await this.say(`/tool exec ${JSON.stringify({ command: "touch never" })}`);
      await this.open("Approvals");
      await page.getByRole("button", { name: "Deny" }).click();
      await this.browser.shows("Nothing waits for you");
      const { messages } = gateway.call("chat.history", { sessionKey: "agent:main:main", limit: 10 });
      expect(JSON.stringify(messages).includes("Denied: a person"), "the reason", messages.at(-1));
    });
  }

  actor(path) {
    return this.page.locator(`.actor[data-path="${path}"]`);
  }

  async tree() {
    const presence = this.actor("gateway/presence");
    await this.one("the tree shows an actor that crashes: how often, and why", async () => {
      await this.open("Tree");
      await presence.getByText("up").waitFor();
      this.gateway.call("system.chaos", { path: "gateway/presence", fault: "panic" });
      await presence.getByText(/1 restart · .*panic/i).waitFor();
    });
    await this.one("one click parks an actor and another brings it back", async () => {
      await this.page.getByLabel("park gateway/presence").click();
      await presence.getByText("parked", { exact: true }).waitFor();
      await this.browser.shows("1 parked");
      await this.page.getByLabel("resume gateway/presence").click();
      await this.browser.shows("all well");
    });
    await this.one("the page of health names what is parked, and leads there", async () => {
      this.gateway.call("system.actors.park", { path: "gateway/presence" });
      await this.open("Health");
      await this.browser.shows("gateway/presence is parked");
      await this.page.getByRole("link", { name: "look" }).click();
      await presence.getByText("parked", { exact: true }).waitFor();
      this.gateway.call("system.actors.resume", { path: "gateway/presence" });
      await this.open("Health");
      await this.browser.shows("All is well");
    });
  }

  async devices() {
    await this.one("a device that asks is approved by a click", async () => {
      const device = new Device(this.gateway);
      await this.open("Devices");
      await device.ask();
      await this.page.locator(".request").getByRole("button", { name: "Approve" }).click();
      await until("it is paired", ANSWER_S, async () => (await device.connect({ token: this.gateway.token })).hello);
      await this.browser.shows("Nobody waits");
    });
    await this.one("an invitation is a code that can be scanned", async () => {
      await this.page.getByRole("button", { name: "Invite a device" }).click();
      const image = this.page.getByAltText("Setup code as a picture");
      await image.waitFor();
      expect(await image.evaluate((img) => img.complete && img.naturalWidth > 20), "a picture");
    });
  }

  async look() {
    const { page } = this;
    await this.one("sessions are listed, and lead to their chat", async () => {
      await this.open("Sessions");
      await page.locator("tbody").getByRole("link").first().click();
      await page.locator(".said").waitFor();
    });
    await this.one("the log is followed, and filtered by words and level", async () => {
      await this.open("Logs");
      await page.locator(".log > div", { hasText: "presence" }).first().waitFor();
      await page.getByLabel("Filter").fill("nobody writes this");
      await this.browser.until("no line", TURN_S, async () => (await page.locator(".log > div:visible").count()) === 0);
    });
    const editor = page.getByLabel("Configuration");
    const write = async (change) => {
      await editor.fill(change(await editor.inputValue()));
      await page.getByRole("button", { name: "Save" }).click();
    };
    await this.one("the configuration is shown without its secrets, and a mistake in it is told and not written", async () => {
      await this.open("Config");
      await this.browser.until("the text", TURN_S, async () => (await editor.inputValue()).includes("autoApproveLocal"));
      expect(!(await editor.inputValue()).includes(this.gateway.token), "no secret");
      await write((text) => text.replace("\"tools\"", "\"session\":{\"dmScope\":\"nobody\"},\"tools\""));
      await this.browser.shows(/session\.dmScope: /);
      await this.browser.shows("Nothing was written");
      expect(!JSON.stringify(this.gateway.call("config.get")).includes("nobody"), "the file as it was");
    });
    await this.one("a change is saved and in force at once, and nobody was disconnected", async () => {
      await write((text) => text.replace("nobody", "per-peer"));
      await this.browser.shows("Saved, and in force");
      expect(this.gateway.call("config.get").config.session.dmScope === "per-peer", "the new setting");
      expect(await page.locator("#state.up").isVisible(), "the page is connected");
    });
  }

  async survive() {
    await this.one("after the gateway was killed it reconnects by itself and is up to date", async () => {
      await this.open("Chat");
      await this.gateway.kill();
      await this.browser.shows("Reconnecting");
      await this.gateway.start();
      await this.up();
      await this.say("after the crash");
      await this.answers(/after the crash$/);
      await this.idle();
    });
  }

  async fit() {
    const { page, browser } = this;
    await this.one("by the keyboard every page is reached", async () => {
      await page.locator("nav").getByRole("link", { name: "Tree" }).focus();
      await page.keyboard.press("Enter");
      await browser.shows("Supervision tree");
    });
    await this.one("on a phone, and in the dark, nothing sticks out", async () => {
      await page.setViewportSize(PHONE);
      await page.emulateMedia({ colorScheme: "dark" });
      for (const name of ["Chat", "Sessions", "Channels", "Devices", "Tree", "Health", "Logs", "Config"]) {
        await this.open(name);
        await browser.keep(`own-phone-${name.toLowerCase()}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        expect(wide <= PHONE.width, `${name} is as wide as the phone`, wide);
      }
    });
  }
}
