// The stock Control UI beside chat and sessions: how people log in, and what each of its pages shows and does.
import { check, expect, until } from "./checks.mjs";
import { Browser, TURN_S } from "./browser.mjs";
import { Gateway } from "./gateway.mjs";

/** The pages that are looked at, with a word that each shows, as far as it is this gateway's to say. */
const PAGES = {
  "/agents": /crabtree\/offline/i,
  "/apps": /Companion apps/i,
  "/activity": /Recent sessions/i,
  "/dashboards": /No dashboards yet/i,
  "/memory-import": /Import Memory/i,
  "/new": /What should this session work on/i,
  "/plugins": /Plugins/i,
  "/skills": /Skills/i,
  "/skills/workshop": /Skill workshop/i,
  "/systems": /Memory used/i,
  "/tasks": /No background tasks yet/i,
  "/usage": /No usage in this date range/i,
  "/worktrees": /No managed worktrees/i,
  "/settings/about": /Control UI/i,
  "/settings/agents": /Workspaces, tools, identities/i,
  "/settings/appearance": /Theme/i,
  "/settings/approvals": /No standing grants/i,
  "/settings/channels": /No channels connected yet/i,
  "/settings/connection": /Connected to 127\.0\.0\.1/i,
  "/settings/devices": /1 of 1 connected/i,
  "/settings/infrastructure": /Gateway server settings/i,
  "/settings/mcp": /Configured servers/i,
  "/settings/memory": /Engine health/i,
  "/settings/model-providers": /Defaults for all agents/i,
  "/settings/plugins": /No plugins are installed/i,
  "/settings/profile": /@main/i,
  "/settings/secrets": /Secrets/i,
  "/settings/security": /Gateway auth/i,
};
/** What none of them may say. */
const WRONG = /unknown method|could not load|failed to load|did not start|invalid \S+ params|is not a function/i;
/** The page of the memory looks for the settings of a plugin that is not here, and does without them. */
const REFUSED = /^config schema path not found, to config\.schema\.lookup .*memory-core/;
/** This long nothing has been asked for: the page has what it shows. */
const QUIET_MS = 150;
const SIZE = { width: 1280, height: 1000 };

export async function checkUiPages(env) {
  const gateway = await Gateway.start(env, "ui-pages-gateway", { session: { dmScope: "main" } });
  const browser = await check("ui pages: Chromium starts", () => Browser.open(env, gateway), () => gateway.log());
  if (browser) {
    try {
      await new UiPages(browser, gateway).all();
    } finally {
      await browser.close();
    }
  }
  await check("ui pages: the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  }, () => gateway.log());
}

class UiPages {
  constructor(browser, gateway) {
    Object.assign(this, { browser, gateway, page: browser.page });
  }

  async all() {
    await this.page.setViewportSize(SIZE);
    await this.login();
    await this.raw();
    await this.logs();
    await this.debug();
    await this.automations();
    await this.agents();
    await this.walk();
    await this.atRoot();
    await this.one("no page had an error, or asked another host", () => {
      const found = [...this.browser.errors, ...this.browser.strangers];
      expect(found.length === 0, "nothing", found);
    });
  }

  /** A check, after which nothing was refused but what it expects (and takes away). */
  one(name, body) {
    return check(`ui pages: ${name}`, async () => {
      this.browser.refused.length = 0;
      try {
        await body();
        expect(this.browser.refused.length === 0, "nothing refused", this.browser.refused);
      } catch (error) {
        await this.browser.shot();
        throw error;
      }
    }, () => this.gateway.log());
  }

  /** The refusals since the last look. */
  refusals() {
    return this.browser.refused.splice(0).join("\n");
  }

  get secret() {
    return this.page.getByRole("textbox", { name: "Gateway secret" });
  }

  async connect(secret) {
    await this.secret.fill(secret);
    await this.page.getByRole("button", { name: "Connect", exact: true }).click();
  }

  async login() {
    const { browser, gateway, page } = this;
    await this.one("who brings no secret is asked for one, and told that a wrong one is wrong", async () => {
      await browser.goto("/");
      await this.secret.waitFor();
      await browser.keep("login");
      await this.connect("wrong");
      await browser.shows(/rejected the supplied Gateway secret/);
      expect(/token missing[\s\S]*token mismatch/.test(this.refusals()), "both reasons");
    });
    await this.one("with the right one the main session opens", async () => {
      await this.connect(gateway.token);
      await browser.composer.waitFor();
      await browser.keep("chat");
    });
    await this.one("without the secret the device's token is enough, also for the settings", async () => {
      await page.evaluate(() => sessionStorage.clear());
      const settings = page.waitForResponse(/\/control-ui-config\.json$/);
      await page.reload();
      await browser.composer.waitFor();
      const answer = await settings;
      expect(answer.status() === 200 && (await answer.json()).basePath === "/control", "its settings", answer.status());
      const bearer = (await answer.request().allHeaders()).authorization;
      expect(bearer && !bearer.includes(gateway.token), "asked for without the secret", bearer?.length);
      const kept = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage, location.href]));
      expect(!kept.includes(gateway.token), "no secret kept");
    });
    await this.one("the service worker looks after what is below the base path", async () => {
      const scope = () => navigator.serviceWorker.ready.then((worker) => worker.scope);
      expect((await page.evaluate(scope)) === `${browser.home}/`, "its scope", await page.evaluate(scope));
    });
  }

  async raw() {
    const { browser, gateway, page } = this;
    const editor = page.locator("main textarea");
    const write = async (change) => {
      await editor.fill(change(await editor.inputValue()));
      await page.getByRole("button", { name: "Save", exact: true }).click();
    };
    await this.one("a mistake in the raw configuration is told, and nothing is written", async () => {
      await browser.goto("/settings/advanced");
      await page.getByRole("button", { name: "Raw", exact: true }).click();
      await browser.until("the text", TURN_S, async () => (await editor.inputValue()).includes("dmScope"));
      expect(!(await editor.inputValue()).includes(gateway.token), "no secret");
      await write((text) => text.replace('"main"', '"nobody"'));
      await browser.shows("Save failed");
      await browser.keep("config-raw-refused");
      expect(/^invalid config: session\.dmScope: .*, to config\.set /.test(this.refusals()), "refused by config.set");
      expect(gateway.call("config.get").config.session.dmScope === "main", "the file as it was");
    });
    await this.one("a change of it is saved by config.set, and in force", async () => {
      await write((text) => text.replace('"nobody"', '"per-peer"'));
      await until("the new setting", TURN_S, () => gateway.call("config.get").config.session.dmScope === "per-peer");
      await this.settled();
      expect(!/Save failed/.test(await browser.text()), "no complaint any more");
      await browser.keep("config-raw-saved");
    });
  }

  async logs() {
    const { browser, page } = this;
    await this.one("the log is shown, and filtered by words", async () => {
      await browser.goto("/logs");
      await browser.shows(/Gateway listening on/);
      await browser.keep("logs");
      await page.getByLabel("Filter", { exact: true }).fill("nobody writes this");
      await until("no such line", TURN_S, async () => !(await browser.text()).includes("Gateway listening on"));
    });
  }

  async debug() {
    const { browser, page } = this;
    const call = async (method, params) => {
      await page.getByLabel("Method", { exact: true }).selectOption(method);
      await page.getByLabel("Params (JSON)").fill(JSON.stringify(params));
      await page.getByRole("button", { name: "Call", exact: true }).click();
    };
    await this.one("debug shows how the gateway is, and what a call by hand is answered", async () => {
      await browser.goto("/debug");
      await browser.shows(/"runtimeVersion": "\d/);
      expect(!/Failed/.test(await browser.text()), "all of its snapshots");
      await browser.keep("debug");
      await call("agent.identity.get", { agentId: "main" });
      await browser.shows(/"agentId": "main",? "name": "Assistant"/);
      await call("agent.identity.get", { agentId: "ghost" });
      await browser.shows(/unknown agent id/i);
      await browser.keep("debug-call");
      expect(/agent\.identity\.get/.test(this.refusals()), "that one refused");
    });
  }

  async automations() {
    const { browser } = this;
    const { jobs } = this.gateway.call("cron.list");
    await this.one(`automations: ${jobs.length === 0 ? "there are none" : "each is listed"}`, async () => {
      await browser.goto("/cron");
      await browser.shows(/Scheduler (disabled|enabled)|New automation/);
      await browser.shows(jobs.length === 0 ? "No automations yet" : jobs[0].name);
      await this.settled();
      this.isSound(await browser.text());
      await browser.keep("automations");
    });
  }

  async agents() {
    const { browser, gateway, page } = this;
    await this.one("an agent gets another name on its page", async () => {
      await browser.goto("/settings/agents");
      await page.getByLabel("Display name").fill("Crab");
      await page.getByRole("button", { name: "Save", exact: true }).first().click();
      await until("the new name", TURN_S, () => gateway.call("agents.list").agents[0].name === "Crab");
      await browser.goto("/agents");
      await browser.shows(/Crab.*crabtree\/offline/);
    });
  }

  /** Goes there without loading anything anew, as a link of the page does. */
  async follow(path) {
    await this.page.evaluate((to) => {
      history.pushState({}, "", to);
      dispatchEvent(new PopStateEvent("popstate", { state: {} }));
    }, this.browser.home.slice(this.browser.origin.length) + path);
  }

  async settled() {
    const { waiting } = this.browser;
    let quiet = Date.now();
    const isQuiet = () => {
      if (waiting.size > 0) quiet = Date.now();
      return Date.now() - quiet > QUIET_MS;
    };
    await until("a page that waits for nothing", TURN_S, isQuiet).catch((error) => {
      throw new Error(`${error.message}; it waits for ${[...waiting.values()].join(", ")}`);
    });
  }

  isSound(text) {
    const wrong = WRONG.exec(text)?.[0];
    expect(!wrong, "nothing wrong", wrong && text.slice(Math.max(0, text.indexOf(wrong) - 100)));
  }

  async walk() {
    const { browser } = this;
    await this.one(`${Object.keys(PAGES).length} other pages show what there is, and no error`, async () => {
      await browser.goto("/chat/main");
      await browser.composer.waitFor();
      for (const [path, wanted] of Object.entries(PAGES)) {
        await this.follow(path);
        await browser.shows(wanted);
        await this.settled();
        this.isSound(await browser.text());
        await browser.keep(path.slice(1).replaceAll("/", "-"));
      }
      const refused = this.browser.refused.splice(0).filter((told) => !REFUSED.test(told));
      expect(refused.length === 0, "nothing else refused", refused);
    });
  }

  async atRoot() {
    const { browser, gateway, page } = this;
    await this.one("at the base path / it logs in with #token=, and our own page is at /crabtree/", async () => {
      gateway.run("config", "set", "gateway.controlUi.basePath", '"/"');
      browser.home = browser.origin;
      await browser.login();
      expect(page.url() === `${browser.origin}/chat/main`, "its address", page.url());
      await browser.goto("/settings/about");
      await browser.shows(/Control UI/i);
      await browser.goto("/crabtree/");
      await browser.shows("Connect to this gateway");
      await browser.keep("own-page");
      expect(/^unauthorized: gateway token missing/.test(this.refusals()), "asked for a secret of its own");
    });
  }
}
