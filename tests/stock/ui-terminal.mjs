// The terminal of the stock Control UI: a shell on the gateway's machine in a browser, used as a person does.
import { check, expect, until } from "./checks.mjs";
import { Browser, TURN_S } from "./browser.mjs";
import { Gateway } from "./gateway.mjs";

const SMALL = { width: 900, height: 600 };
const LARGE = { width: 1400, height: 1000 };

export async function checkUiTerminal(env) {
  const terminal = { shell: "/bin/sh" };
  const gateway = await Gateway.start(env, "ui-terminal-gateway", { gateway: { terminal } });
  const browser = await check("ui terminal: Chromium starts", () => Browser.open(env, gateway), () => gateway.log());
  if (browser) {
    try {
      await new UiTerminal(browser, gateway).all();
    } finally {
      await browser.close();
    }
  }
  await check("ui terminal: the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  }, () => gateway.log());
}

class UiTerminal {
  constructor(browser, gateway) {
    Object.assign(this, { browser, gateway, page: browser.page, frames: [] });
    // What it shows is painted: it is read as it arrives.
    browser.page.on("websocket", (socket) =>
      socket.on("framereceived", ({ payload }) => this.frames.push(JSON.parse(payload))),
    );
  }

  async all() {
    await this.opens();
    await this.types();
    await this.resizes();
    await this.reloads();
    await this.closes();
    await this.hides();
    await this.one("no page had an error, or asked another host", () => {
      const found = [...this.browser.errors, ...this.browser.strangers];
      expect(found.length === 0, "nothing", found);
    });
  }

  /** A check, after which nothing was refused. */
  one(name, body) {
    return check(`ui terminal: ${name}`, async () => {
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

  get sessions() {
    return this.gateway.call("terminal.list").sessions;
  }

  /** What the terminal has shown since this page was loaded. */
  get shown() {
    return this.frames
      .filter(({ event }) => event === "terminal.data")
      .map(({ payload }) => payload.data)
      .join("");
  }

  async say(line) {
    await this.page.keyboard.type(line);
    await this.page.keyboard.press("Enter");
  }

  async shows(wanted) {
    try {
      return await until(`the terminal shows ${wanted}`, TURN_S, () => wanted.exec(this.shown));
    } catch (error) {
      throw new Error(`${error.message}; it shows:\n${this.shown.slice(-2000)}`);
    }
  }

  /** Waits until the terminal takes keys. */
  async focus() {
    const input = this.page.getByRole("textbox", { name: "Terminal input" }).first();
    await input.waitFor();
    await input.click();
  }

  async opens() {
    const { browser, page } = this;
    await this.one("the page opens a shell", async () => {
      await page.setViewportSize(SMALL);
      await browser.login();
      await browser.goto("/terminal");
      await this.focus();
      await until("one terminal", TURN_S, () => this.sessions.length === 1);
      expect(this.sessions[0].attached && this.sessions[0].shell === "/bin/sh", "attached", this.sessions);
    });
  }

  async types() {
    await this.one("what is typed is done, and shown", async () => {
      await this.say("echo $((6*7))-is-it; tty");
      await this.shows(/42-is-it\r\n\/dev\//);
      await this.browser.keep("terminal");
    });
  }

  async resizes() {
    const { page } = this;
    const size = async () => {
      const before = this.shown.length;
      await this.say("stty size");
      return until("a size", TURN_S, () => /\n(\d+ \d+)\r/.exec(this.shown.slice(before))?.[1]);
    };
    await this.one("the shell is as large as the window", async () => {
      const small = (await size()).split(" ").map(Number);
      await page.setViewportSize(LARGE);
      await until("a larger terminal", TURN_S, async () => {
        const large = (await size()).split(" ").map(Number);
        return large[0] > small[0] && large[1] > small[1];
      });
    });
  }

  async reloads() {
    const { page } = this;
    await this.one("a page that is loaded again finds its shell, with what it showed", async () => {
      const [{ sessionId }] = this.sessions;
      this.frames.length = 0;
      await page.reload();
      const attached = await until("it is attached", TURN_S, () =>
        this.frames.find(({ payload }) => payload?.buffer !== undefined && payload.sessionId === sessionId),
      );
      expect(attached.payload.buffer.includes("42-is-it"), "what it showed", attached.payload.buffer);
      await this.focus();
      await this.say("echo again-$((6*7))");
      await this.shows(/again-42/);
      await this.browser.keep("terminal-reloaded");
      expect(this.sessions.length === 1, "still one", this.sessions);
    });
  }

  async closes() {
    await this.one("a shell that exits is gone", async () => {
      await this.say("exit");
      await until("no terminal", TURN_S, () => this.sessions.length === 0);
      const exit = await until("it is told", TURN_S, () => this.frames.find(({ event }) => event === "terminal.exit"));
      expect(exit.payload.exitCode === 0 && exit.payload.reason === "process_exit", "how it ended", exit.payload);
    });
  }

  async hides() {
    const { browser, gateway, page } = this;
    await this.one("turned off, it is not there any more", async () => {
      gateway.run("config", "set", "gateway.terminal.enabled", "false");
      await page.reload();
      await browser.goto("/terminal");
      await page.getByText("The terminal is not available on this gateway.").waitFor();
      await browser.keep("terminal-off");
    });
  }
}
