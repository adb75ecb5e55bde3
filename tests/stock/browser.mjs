// The stock Control UI in a headless Chromium, used and read as a person does.
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { until } from "./checks.mjs";
import { cleanEnv, track } from "./gateway.mjs";

const CHROMIUM = "/usr/bin/chromium";
const START_S = 30;
/** Long after the last piece of a turn. */
export const TURN_S = 30;
/** Of a page that has all it needs. */
const PAGE_S = 20;
/** To take a picture. */
const PICTURE_S = 5;
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Nothing but this machine: any name is nowhere.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  "--remote-debugging-port=0",
];
/** A conversation that was left stays in the document, inert. */
const SHOWN = ":not([inert] *)";
/** What no page may say. */
const COMPLAINTS = /unknown method|does not support|refresh required|did not start|invalid \S+ params|unavailable/i;

export class Browser {
  /** Opens a browser with a profile of its own for the stock Control UI, which `gateway` is told to serve at `base`. */
  static async open(env, gateway, base = "/control") {
    const files = `${env.stock}/oc/node_modules/openclaw/dist/control-ui`;
    gateway.run("config", "set", "gateway.controlUi.root", JSON.stringify(files));
    return Browser.at(env, gateway, base);
  }

  /** The same for the gateway's pages at `base`. */
  static async at({ stock, work }, gateway, base = "") {
    const home = `${work}/chromium`;
    rmSync(home, { recursive: true, force: true });
    mkdirSync(home, { recursive: true });
    const browser = new Browser(work, gateway, base);
    const args = [...FLAGS, `--user-data-dir=${home}/profile`, "about:blank"];
    browser.child = track(spawn(CHROMIUM, args, { env: cleanEnv(home), stdio: "ignore" }), work);
    browser.ended = new Promise((done) => browser.child.once("close", done));
    browser.child.once("error", (error) => (browser.broken = error));
    const [port] = await until("Chromium can be driven", START_S, () => {
      if (browser.broken) throw new Error(`${CHROMIUM} cannot be run: ${browser.broken.message}`);
      // Written in pieces: the port's line is whole once another follows it.
      return /^(\d+)\n/.exec(read(`${home}/profile/DevToolsActivePort`))?.slice(1);
    });
    const { chromium } = createRequire(`${stock}/pw/package.json`)("playwright-core");
    browser.remote = await chromium.connectOverCDP(`http://127.0.0.1:${port}`);
    await browser.newPage();
    return browser;
  }

  constructor(work, gateway, base) {
    const { origin } = gateway;
    Object.assign(this, { work, gateway, origin, home: origin + base, runs: new Set(), shots: 0 });
    Object.assign(this, { errors: [], strangers: [], refused: [], waiting: new Map() });
  }

  async newPage() {
    // High enough for a whole conversation: what is scrolled out of view is not in the document.
    const viewport = { width: 1280, height: 2400 };
    const context = await this.remote.newContext({ viewport, ignoreHTTPSErrors: true });
    context.on("request", (request) => this.meet(request.url()));
    context.on("page", (page) => this.watch(page));
    this.page = await context.newPage();
    this.page.setDefaultTimeout(PAGE_S * 1000);
  }

  /** The same browser, in another tab that shows the main session. */
  async tab() {
    const page = await this.page.context().newPage();
    page.setDefaultTimeout(PAGE_S * 1000);
    const tab = Object.assign(Object.create(this), { page });
    await tab.login();
    return tab;
  }

  /** Opens the main session the first time. */
  async login() {
    await this.goto(`/#token=${this.gateway.token}`);
    await this.composer.waitFor();
  }

  watch(page) {
    page.on("pageerror", (error) => this.errors.push(error.stack ?? String(error)));
    page.on("websocket", (socket) => {
      this.meet(socket.url());
      const methods = new Map();
      // What a page asked that has been left is answered to nobody.
      this.waiting.clear();
      socket.on("framesent", ({ payload }) => {
        const { id, method, params } = JSON.parse(payload);
        methods.set(id, `${method} ${JSON.stringify(params)}`);
        this.waiting.set(id, method);
      });
      socket.on("framereceived", ({ payload }) => {
        const { type, id, ok, error, event, payload: told } = JSON.parse(payload);
        this.waiting.delete(id);
        if (type === "res" && !ok) this.refused.push(`${error.message}, to ${methods.get(id)}`);
        if (event === "chat" && told.state === "delta") this.runs.add(told.runId);
      });
    });
  }

  meet(url) {
    const { protocol, host } = new URL(url);
    const own = host === new URL(this.origin).host || url.startsWith(`blob:${this.origin}/`);
    if (!own && protocol !== "data:") this.strangers.push(url);
  }

  goto(path) {
    return this.page.goto(this.home + path);
  }

  text() {
    return this.page.evaluate(() => document.body.innerText);
  }

  /** Waits until the page shows this, and complains about nothing. */
  async shows(wanted, seconds = TURN_S) {
    let text = "";
    await this.until(String(wanted), seconds, async () => {
      text = (await this.text()).replace(/\s+/g, " ");
      return wanted instanceof RegExp ? wanted.test(text) : text.includes(wanted);
    });
    return text;
  }

  /** Waits for something on the page; if it does not come, tells what was there instead. */
  async until(what, seconds, probe) {
    try {
      return await until(what, seconds, probe);
    } catch (error) {
      throw new Error(`${error.message}; the page shows:\n${(await this.text()).slice(0, 2000)}`);
    }
  }

  /** Waits until the address matches, and returns the match. */
  address(pattern) {
    return this.until(`an address like ${pattern}`, PAGE_S, () => pattern.exec(this.page.url()));
  }

  /** What the page says that it should not. */
  async complaint() {
    return COMPLAINTS.exec(await this.text())?.[0];
  }

  get composer() {
    return this.page.locator(`textarea[aria-label="Chat composer"]${SHOWN}`);
  }

  get stopButton() {
    return this.page.getByLabel("Stop generating");
  }

  /** Types a message and sends it. */
  async say(text) {
    await this.composer.fill(text);
    await this.composer.press("Enter");
  }

  /** The same for a slash command, where Enter takes the choice in the menu first. */
  async command(text) {
    await this.composer.fill(text);
    await this.page.locator(`.chat-send-btn--send${SHOWN}`).click();
  }

  /** The conversation as it is shown: `{who, text}`, oldest first. */
  transcript() {
    return this.page.locator(`.chat-group${SHOWN}`).evaluateAll((groups) =>
      groups.map((group) => ({
        who: group.classList.contains("user") ? "user" : "assistant",
        text: [...group.querySelectorAll(".chat-text")].map((part) => part.innerText.replace(/\s+/g, " ").trim()).join(" "),
      })),
    );
  }

  /** Waits until the last rows of the conversation are these: `["user" | "assistant", text or pattern]`. */
  async ends(seconds, ...rows) {
    const fits = ({ who, text }, [owner, wanted]) =>
      who === owner && (wanted instanceof RegExp ? wanted.test(text) : text === wanted);
    await this.until(`a conversation that ends with ${rows.join(" | ")}`, seconds, async () => {
      const last = (await this.transcript()).slice(-rows.length);
      return last.length === rows.length && last.every((row, i) => fits(row, rows[i]));
    });
  }

  /** Waits until nothing runs. */
  idle() {
    return this.until("no turn runs", TURN_S, async () => !(await this.stopButton.isVisible()));
  }

  /** A picture for those who ask why a check failed. */
  async shot() {
    this.shots += 1;
    await this.page.screenshot({ path: `${this.work}/ui-${this.shots}.png` }).catch(() => {});
  }

  /** A picture of a page as it should be; on a machine that is too busy to take it there is none. */
  async keep(name) {
    const taken = this.page.screenshot({ path: `${this.work}/pages/${name}.png`, timeout: PICTURE_S * 1000 });
    await taken.catch((error) => console.log(`     no picture of ${name}: ${error.message.split("\n")[0]}`));
  }

  async close() {
    await this.remote?.close().catch(() => {});
    this.child.kill("SIGTERM");
    await this.ended;
  }
}

function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
