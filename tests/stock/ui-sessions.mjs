// The pages of the stock Control UI that list, find and change sessions.
import { readFileSync, readdirSync } from "node:fs";
import { zstdDecompressSync } from "node:zlib";
import { expect } from "./checks.mjs";
import { TURN_S } from "./browser.mjs";

const MAIN = "agent:main:main";
const FIRST = "first words of a session of its own";
/** Said in no other session. */
const WORDS = "session of its own";
const LABEL = "a label of my own";

/** The page `/sessions`. */
class SessionsPage {
  constructor(browser) {
    Object.assign(this, { browser, page: browser.page });
  }

  async open() {
    await this.browser.goto("/sessions");
    await this.row(MAIN).waitFor();
  }

  row(key) {
    return this.page.locator(`tr.session-data-row[aria-controls="session-details-${encodeURIComponent(key)}"]`);
  }

  /** Waits until the table has a row of this session, or has none. */
  async lists(key, listed) {
    await this.row(key).waitFor({ state: listed ? "visible" : "detached" });
  }

  /** Chooses an entry of the menu of a row. */
  async choose(key, value) {
    await this.row(key).getByLabel("Open session menu").click();
    await this.page.locator(`wa-dropdown-item[value="${value}"][aria-disabled="false"]:visible`).click();
  }

  /** Shows the `active`, `archived` or `all` sessions. */
  async filter(which) {
    await this.page.locator(`.sessions-view-segment wa-radio[value="${which}"]`).click();
  }

  sidebar(key) {
    return this.page.locator(`.sidebar-recent-session[data-session-key="${key}"]`);
  }
}

export async function manageSessions(browser, one) {
  const pages = new SessionsPage(browser);
  await list(browser, pages, one);
  let key;
  await one("/new starts a session with its first message", async () => {
    await browser.goto("/new");
    await browser.page.locator("openclaw-new-session-page textarea:visible").first().fill(FIRST);
    await browser.page.getByLabel("Start session").click();
    key = await newKey(browser);
    await browser.ends(TURN_S, ["user", FIRST], ["assistant", new RegExp(`\\(turn 1\\): ${FIRST}$`)]);
    await pages.sidebar(key).waitFor();
  });
  await change(browser, pages, one, () => {
    expect(key, "the session that /new started");
    return key;
  });
  await one("the slash command /new opens a new session", async () => {
    await browser.goto("/chat/main");
    await browser.composer.waitFor();
    await browser.command("/new");
    const opened = await newKey(browser);
    expect(opened !== key, "another session", opened);
    await pages.sidebar(opened).waitFor();
    await browser.say("hello, new one");
    await browser.ends(TURN_S, ["user", "hello, new one"], ["assistant", /\(turn 1\): hello, new one$/]);
  });
}

/** The key of the session that the address names, once it is one with an id. */
async function newKey(browser) {
  const id = /\/chat\/main\/(?:.*-)?([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})$/;
  const [, ...parts] = await browser.address(id);
  return `agent:main:dashboard:${parts.join("-")}`;
}

async function list(browser, pages, one) {
  await one("the sessions page lists the session, and opens it", async () => {
    await pages.open();
    const cells = (await pages.row(MAIN).locator("td").allInnerTexts()).map((text) => text.replace(/\s+/g, " ").trim());
    expect(cells[1].startsWith(MAIN) && cells[2] === "direct", "key and kind", cells);
    expect(/^(Done|Killed)$/.test(cells[3]), "the status of its last run", cells);
    await browser.shows(/1-1 of 1 rows/);
    await pages.row(MAIN).locator("a.session-link").click();
    await browser.address(/\/chat\/main$/);
    await browser.ends(TURN_S, ["user", /./], ["assistant", /./]);
  });
  await one("nothing is archived", async () => {
    await pages.open();
    await pages.filter("archived");
    await pages.lists(MAIN, false);
    await pages.filter("all");
    await pages.lists(MAIN, true);
  });
}

async function change(browser, pages, one, session) {
  const { page } = browser;
  await one("a session is pinned from the sessions page", async () => {
    await pages.open();
    await pages.choose(session(), "toggle-pin");
    await page.locator(`.session-row-host--pinned[data-session-key="${session()}"]`).waitFor();
  });
  await one("a session is renamed from the sessions page", async () => {
    await pages.choose(session(), "rename");
    await page.locator('openclaw-modal-dialog input[name="value"]').fill(LABEL);
    await page.locator("openclaw-modal-dialog button[type=submit]").click();
    await pages.row(session()).filter({ hasText: LABEL }).waitFor();
    await pages.sidebar(session()).filter({ hasText: LABEL }).waitFor();
    await browser.keep("sessions");
  });
  await find(browser, pages, one, session);
  await one("a session is archived, and is found under Archived", async () => {
    await pages.open();
    await pages.choose(session(), "toggle-archived");
    await pages.lists(session(), false);
    await pages.filter("archived");
    await pages.row(session()).filter({ hasText: LABEL }).waitFor();
  });
  await one("an archived session is restored", async () => {
    await pages.choose(session(), "toggle-archived");
    await pages.lists(session(), false);
    await pages.filter("active");
    await pages.lists(session(), true);
  });
  await one("a session is deleted", async () => {
    await pages.choose(session(), "delete");
    await page.locator("openclaw-modal-dialog button.danger").click();
    await pages.lists(session(), false);
    await pages.filter("all");
    await pages.lists(MAIN, true);
    await pages.lists(session(), false);
    expect(archived(browser.gateway).some((text) => text.includes(FIRST)), "an archive of what was said");
    expect((await pages.sidebar(session()).count()) === 0, "nothing of it in the sidebar");
  });
}

/** The archives of deleted transcripts, as text. */
function archived({ state }) {
  const folder = `${state}/agents/main/sessions`;
  const files = readdirSync(folder).filter((name) => name.endsWith(".zst"));
  return files.map((name) => zstdDecompressSync(readFileSync(`${folder}/${name}`)).toString());
}

async function find(browser, pages, one, session) {
  const { page } = browser;
  await one("the transcript search finds what was said, and where", async () => {
    await pages.open();
    await page.getByLabel("Search session transcripts").fill(WORDS);
    await page.locator(".sessions-transcript-search__form button[type=submit]").click();
    const hits = page.locator(".sessions-transcript-search__result").filter({ hasText: session() });
    await hits.filter({ hasText: "Assistant" }).filter({ hasText: FIRST }).waitFor();
    await hits.filter({ hasText: "User" }).filter({ hasText: FIRST }).click();
    await browser.ends(TURN_S, ["user", FIRST], ["assistant", /./]);
  });
  await one("the command palette finds sessions and messages", async () => {
    await page.getByLabel("Open command palette").last().click();
    await page.keyboard.type(WORDS);
    await browser.shows(new RegExp(`In messages 1 .*${LABEL}.*${FIRST}`, "i"));
    await page.keyboard.press("ControlOrMeta+a");
    await page.keyboard.type(LABEL);
    await browser.shows(new RegExp(`Sessions 1 .*${LABEL}`, "i"));
    await page.keyboard.press("Escape");
  });
}
