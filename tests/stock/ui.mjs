// The stock Control UI: chat, history, and the pages that live on sessions.
import { check, expect } from "./checks.mjs";
import { Browser, TURN_S } from "./browser.mjs";
import { Gateway } from "./gateway.mjs";
import { manageSessions } from "./ui-sessions.mjs";

/** Some seconds of an answer, at 20 ms a word. */
const LONG = `${"so it goes ".repeat(60)}and that was it`;
/** What the main session is called for a while. */
const NAME = "the main thing";
/** Said into an answer. */
const MEANWHILE = "something said meanwhile";
/** Much longer than anybody waits. */
const ENDLESS = "and so on ".repeat(300).trim();

export async function checkUi(env) {
  const gateway = await Gateway.start(env, "ui-gateway");
  await useUi(env, gateway);
  await check("ui: the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  }, () => gateway.log());
}

/** The checks with a browser, against any gateway that runs. */
export async function useUi(env, gateway) {
  const browser = await check("ui: Chromium starts", () => Browser.open(env, gateway), () => gateway.log());
  if (!browser) return;
  const one = (name, body) => check(`ui: ${name}`, () => watched(browser, body), () => gateway.log());
  try {
    await chat(browser, one);
    await commands(browser, one);
    await manageSessions(browser, one);
    await survive(browser, one);
    await one("no page had an error, asked another host, or was refused anything", () => clean(browser));
  } finally {
    await browser.close();
  }
}

/** A check is done when the page that it leaves complains about nothing. */
async function watched(browser, body) {
  try {
    const result = await body();
    const complaint = await browser.complaint();
    expect(!complaint, "a page without complaints", complaint);
    return result;
  } catch (error) {
    await browser.shot();
    throw error;
  }
}

async function clean({ errors, strangers, refused }) {
  expect(errors.length === 0, "no page error", errors);
  expect(strangers.length === 0, "requests to its own host only", strangers);
  expect(refused.length === 0, "no refused request", refused);
}

async function chat(browser, one) {
  const { page } = browser;
  await one("it logs in with #token= and opens the main session", async () => {
    await browser.login();
    await browser.shows("Connected");
    expect(page.url() === `${browser.home}/chat/main`, "the main session's address", page.url());
    expect((await browser.transcript()).length === 0, "an empty conversation");
  });
  await one("the answer to a typed message streams in", async () => {
    await browser.say(LONG);
    await browser.ends(TURN_S, ["user", LONG], ["assistant", /\(turn 1\): so it goes so it(?!.*and that was it)/]);
    expect(await browser.stopButton.isVisible(), "a button that stops it");
    await browser.keep("chat-streaming");
    await browser.ends(TURN_S, ["user", LONG], ["assistant", /\(turn 1\): so it goes .* and that was it$/]);
    await browser.idle();
  });
  await one("a message sent while an answer runs joins it, in every tab", () => join(browser));
  await one("the stop button aborts, and what was said stays", async () => {
    await aborted(browser, 4, () => browser.stopButton.click());
  });
  await one("/stop aborts, too", async () => {
    await aborted(browser, 5, () => browser.command("/stop"));
  });
  await one("the history is the same after a reload, also what was said into an answer", async () => {
    const before = await browser.transcript();
    const joined = before.findIndex(({ who, text }) => who === "user" && text === MEANWHILE);
    expect(before[joined - 1]?.text.endsWith("and that was it"), "what was said into an answer, after it", before);
    await page.reload();
    await browser.composer.waitFor();
    await browser.until("the conversation from before", TURN_S, async () => {
      return JSON.stringify(await browser.transcript()) === JSON.stringify(before);
    });
    await browser.keep("chat-after-a-reload");
  });
}

async function join(browser) {
  const tab = await browser.tab();
  const both = (...rows) => Promise.all([browser, tab].map((one) => one.ends(TURN_S, ...rows)));
  const before = browser.runs.size;
  await browser.say(LONG);
  await both(["assistant", /\(turn 2\): so it goes/]);
  await browser.say(MEANWHILE);
  await browser.ends(TURN_S, ["assistant", /\(turn 2\): so it goes(?!.*and that was it)/], ["user", MEANWHILE]);
  await both(
    ["user", LONG],
    ["assistant", /\(turn 2\): so it goes .* and that was it$/],
    ["user", MEANWHILE],
    ["assistant", new RegExp(`\\(turn 3\\): ${MEANWHILE}$`)],
  );
  await Promise.all([browser.idle(), tab.idle()]);
  expect(browser.runs.size === before + 1, "one run that said all of it", browser.runs.size - before);
  await tab.page.close();
}

async function aborted(browser, turn, stop) {
  await browser.say(ENDLESS);
  await browser.ends(TURN_S, ["assistant", new RegExp(`\\(turn ${turn}\\): and so on and so on`)]);
  await stop();
  await browser.shows("Interrupted");
  await browser.idle();
  const { text } = (await browser.transcript()).at(-1);
  expect(/and so on/.test(text) && text.length < ENDLESS.length, "a part of the answer", text);
}

async function commands(browser, one) {
  await one("/status is answered", async () => {
    await browser.command("/status");
    await browser.ends(TURN_S, ["user", "/status"], ["assistant", /Crabtree \d.*Model: crabtree\/offline/]);
  });
  await one("the menu of slash commands offers what the gateway has", async () => {
    await browser.composer.fill("/sta");
    await browser.shows("/status");
    await browser.composer.fill("");
  });
  await one("/name names the session", async () => {
    await browser.command(`/name ${NAME}`);
    await browser.ends(TURN_S, ["user", `/name ${NAME}`], ["assistant", `Session renamed to “${NAME}”.`]);
    await browser.page.getByText(NAME, { exact: true }).first().waitFor();
  });
  await one("/think sets the level of the session", async () => {
    await browser.command("/think off");
    await browser.shows("Thinking level set to off.");
  });
  await one("/compact is answered", async () => {
    await browser.command("/compact");
    await browser.shows("Context compacted");
  });
  await one("/reset clears the transcript", async () => {
    await browser.command("/reset");
    await browser.shows(/Session reset.*The earlier conversation was cleared/i);
    await browser.ends(TURN_S, ["user", "/reset"], ["assistant", /Session reset/]);
    expect(!(await browser.text()).includes("meanwhile"), "nothing of what was said before");
    await browser.say("hello again");
    await browser.ends(TURN_S, ["user", "hello again"], ["assistant", /\(turn 1\): hello again$/]);
  });
}

/** Last: with a browser that has lived through all the rest. */
async function survive(browser, one) {
  const { gateway, page } = browser;
  await one("kill -9, start: the page connects again, shows the history, and is answered", async () => {
    await browser.goto("/chat/main");
    await browser.composer.waitFor();
    await browser.say("before the crash");
    await browser.ends(TURN_S, ["user", "before the crash"], ["assistant", /: before the crash$/]);
    await browser.idle();
    const before = await browser.transcript();
    const connected = page.getByRole("status").filter({ hasText: /^Connected$/ });
    await connected.waitFor({ state: "attached" });
    await gateway.kill();
    await connected.waitFor({ state: "detached" });
    await gateway.start();
    await connected.waitFor({ state: "attached", timeout: TURN_S * 1000 });
    await browser.until("the conversation from before", TURN_S, async () => {
      return JSON.stringify(await browser.transcript()) === JSON.stringify(before);
    });
    await browser.say("after the crash");
    await browser.ends(TURN_S, ["user", "before the crash"], ["assistant", /./], ["user", "after the crash"], [
      "assistant",
      /: after the crash$/,
    ]);
  });
}
