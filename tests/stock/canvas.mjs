// The canvas in a real browser: a page that an agent edits loads itself again, A2UI messages become a user interface,
// and no address is good for longer than it should be.
import { spawn } from "node:child_process";
import { check, expect, until } from "./checks.mjs";
import { Browser, TURN_S } from "./browser.mjs";
import { Gateway, track } from "./gateway.mjs";
import { Recorder, loadClient } from "./gateway-client.mjs";

const MAIN = "agent:main:main";
const PAGES = "/__openclaw__/canvas/";
const A2UI = "/__openclaw__/a2ui/";

/** A form: a heading, a list out of the data model, a field and a button. */
const SURFACE = [
  {
    surfaceUpdate: {
      surfaceId: "trip",
      components: [
        { id: "root", component: { Column: { children: { explicitList: ["title", "stops", "name", "go"] } } } },
        { id: "title", component: { Text: { usageHint: "h1", text: { literalString: "<b>Trip</b>" } } } },
        { id: "stops", component: { List: { children: { template: { componentId: "stop", dataBinding: "/stops" } } } } },
        { id: "stop", component: { Text: { text: { path: "place" } } } },
        { id: "name", component: { TextField: { label: { literalString: "Who" }, text: { path: "/who" } } } },
        { id: "go", component: { Button: { child: "go-text", primary: true, action: { name: "book", context: [{ key: "who", value: { path: "/who" } }] } } } },
        { id: "go-text", component: { Text: { text: { literalString: "Book" } } } },
      ],
    },
  },
  {
    dataModelUpdate: {
      surfaceId: "trip",
      contents: [
        { key: "who", valueString: "Ada" },
        {
          key: "stops",
          valueMap: [
            { key: "0", valueMap: [{ key: "place", valueString: "Lisbon" }] },
            { key: "1", valueMap: [{ key: "place", valueString: "Porto" }] },
          ],
        },
      ],
    },
  },
  { beginRendering: { surfaceId: "trip", root: "root", styles: { primaryColor: "#aa3300" } } },
];

export async function checkCanvas(env) {
  const gateway = await Gateway.start(env, "canvas-gateway");
  const one = (name, body) => check(`canvas: ${name}`, body, () => gateway.log());
  const browser = await one("Chromium starts", () => Browser.open(env, gateway));
  if (browser) {
    try {
      await look(env, gateway, browser, one);
    } finally {
      await browser.close();
    }
  }
  await one("the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  });
}

async function look(env, gateway, browser, one) {
  await loadClient(env);
  const client = new Recorder(gateway.url, { token: gateway.token });
  const hello = await client.connected(1);
  const base = hello.pluginSurfaceUrls?.canvas;
  const own = await browser.page.context().newPage();
  const errors = [];
  own.on("pageerror", (error) => errors.push(String(error)));
  const strangers = [];
  own.on("request", (request) => {
    if (!request.url().startsWith(`http://127.0.0.1:${gateway.port}/`)) strangers.push(request.url());
  });
  const text = async () => (await own.innerText("body").catch(() => "")).replace(/\s+/g, " ");
  const shows = (wanted) => until(wanted, TURN_S, async () => (await text()).includes(wanted));
  let turns = 0;
  /** Has the agent use its tool. */
  const use = async (args) => {
    turns += 1;
    const runId = `canvas-${turns}`;
    await client.request("chat.send", { sessionKey: MAIN, message: `/tool canvas ${JSON.stringify(args)}`, idempotencyKey: runId });
    const done = await client.request("agent.wait", { runId, timeoutMs: 20_000 });
    expect(done.status === "ok", "the turn ends", done);
  };

  await one("a page that an agent edits loads itself again", async () => {
    expect(/^http:\/\/127\.0\.0\.1:\d+\/__openclaw__\/cap\/[\w-]{24}$/.test(base), "an address in the hello", base);
    await own.goto(base + PAGES);
    await shows("Nothing here yet");
    await use({ action: "write", path: "style.css", content: "h1 { color: rgb(1, 2, 3) }" });
    await use({ action: "write", path: "app.js", content: 'document.body.append(" and a script")' });
    const page = (title) => `<link rel="stylesheet" href="style.css"><h1>${title}</h1><script src="app.js"></script>`;
    await use({ action: "write", path: "index.html", content: page("First") });
    await shows("First and a script");
    const color = await own.$eval("h1", (heading) => getComputedStyle(heading).color);
    expect(color === "rgb(1, 2, 3)", "its style", color);
    await use({ action: "write", path: "index.html", content: page("Second") });
    await shows("Second and a script");
  });

  await one("what agents write has no origin, and reaches no other server", async () => {
    const found = await own.evaluate(async () => ({
      origin: self.origin,
      storage: (() => { try { return String(localStorage.length); } catch (error) { return error.name; } })(),
      abroad: await fetch("http://127.0.0.1:9/").then(() => "reached", (error) => error.name),
      gateway: await fetch("/health").then(() => "read", (error) => error.name),
    }));
    expect(found.origin === "null" && found.storage === "SecurityError", "an origin of its own", found);
    expect(found.abroad === "TypeError" && found.gateway === "TypeError", "nothing else is read", found);
  });

  await one("A2UI messages that an agent pushes become a user interface", async () => {
    await own.goto(base + A2UI);
    await shows("Nothing is shown at the moment.");
    await use({ action: "a2ui_push", jsonl: SURFACE.map((message) => JSON.stringify(message)).join("\n") });
    await shows("Porto");
    expect((await own.innerText("h1")) === "<b>Trip</b>", "text stays text");
    expect((await own.inputValue("input")) === "Ada", "the field shows the data");
    await own.fill("input", "Grace");
    const told = await own.evaluate(() => new Promise((done) => {
      addEventListener("a2uiaction", ({ detail }) => done(detail));
      document.querySelector("button").click();
    }));
    expect(told.name === "book" && told.surfaceId === "trip" && told.context.who === "Grace", "what was done", told);
    const update = { dataModelUpdate: { surfaceId: "trip", path: "/stops/1", contents: [{ key: "place", valueString: "Faro" }] } };
    await use({ action: "a2ui_push", jsonl: JSON.stringify(update) });
    await shows("Faro");
    await use({ action: "a2ui_push", jsonl: JSON.stringify({ deleteSurface: { surfaceId: "trip" } }) });
    await shows("Nothing is shown at the moment.");
  });

  await one("an address that was refreshed, is foreign, or whose connection ended is answered 401", async () => {
    const status = async (address) => (await own.goto(address)).status();
    const told = await client.request("plugin.surface.refresh", { surface: "canvas" });
    const next = told.pluginSurfaceUrls.canvas;
    expect((await status(base + PAGES)) === 401, "refreshed");
    expect((await status(next + PAGES)) === 200, "the new one");
    expect((await status(next.replace(/[\w-]{24}$/, "A".repeat(24)) + PAGES)) === 401, "foreign");
    expect((await status(`http://127.0.0.1:${gateway.port}${PAGES}`)) === 401, "none");
    client.client.stop();
    await until("the end of the connection", TURN_S, async () => (await fetch(next + PAGES)).status === 401);
  });

  await one("crabtree canvas prints addresses that are good while it runs", async () => {
    const command = track(spawn(env.binary, ["canvas"], { env: gateway.env, stdio: ["ignore", "pipe", "ignore"] }), env.work);
    const ended = new Promise((done) => command.once("exit", done));
    let printed = "";
    command.stdout.on("data", (chunk) => (printed += chunk));
    const [, pages] = await until("its addresses", TURN_S, () => /^pages +(\S+)$[^]*^Good/m.exec(printed));
    await own.goto(pages);
    await shows("Second and a script");
    command.kill("SIGTERM");
    await ended;
    await until("their end", TURN_S, async () => (await fetch(pages)).status === 401);
  });

  await one("the pages had no error and asked nobody else", async () => {
    const abroad = strangers.filter((url) => url !== "http://127.0.0.1:9/");
    expect(errors.length === 0 && abroad.length === 0, "clean pages", { errors, abroad });
  });
}
