// The stock terminal UI, on a screen of tmux: typed into and read as a person does.
import { check, expect } from "./checks.mjs";
import { Cli, START_S } from "./cli.mjs";
import { Gateway } from "./gateway.mjs";
import { Screen } from "./screen.mjs";

/** Long after the last piece of a turn. */
const TURN_S = 20;
/** In the line at the bottom: the key and the name of the main session. */
const MAIN = "| session main (main) |";
/** Some seconds of an answer, at 20 ms a word. */
const LONG = "so it goes ".repeat(60);

export async function checkTui(env) {
  const gateway = await Gateway.start(env, "tui-gateway");
  const cli = new Cli(env, "tui", { url: gateway.url, token: gateway.token });
  const one = (name, body) => check(`tui: ${name}`, body, () => gateway.log());
  const screen = await one("it starts on a screen", () =>
    Screen.open(cli, cli.program(["tui", "--session", "main"]), { columns: 110, lines: 200 }),
  );
  if (screen) {
    await use(screen, cli, one);
    await manage(screen, cli, one);
    await survive(screen, gateway, one);
    await screen.close();
  }
  await one("the gateway ends with code 0, and no part of it ever panicked", async () => {
    const code = await gateway.stop();
    expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", code);
  });
}

async function use(screen, cli, one) {
  await one('it reaches "connected | idle", and complains about nothing', async () => {
    const text = await screen.shows(START_S, "connected | idle", "session agent:main:main", "offline");
    expect(!/fail|error|unknown|unavailable|missing/i.test(text), "no complaint", text);
  });
  await one("the answer to a typed message streams in", async () => {
    await screen.say(`${LONG}and that was it`);
    const part = await screen.shows(TURN_S, "streaming", /heard you \(turn 1\): so it goes/);
    expect(part.split("and that was it").length === 2, "a part of the answer, while it streams", part);
    await screen.shows(TURN_S, /\(turn 1\): so it goes.*and that was it /, "connected | idle");
    const rows = await cli.history("main");
    expect(rows.length === 2 && rows[1].text.endsWith("and that was it"), "both rows, complete", rows);
  });
  await one("Esc aborts a long answer", async () => {
    await screen.say(LONG.repeat(10));
    await screen.shows(TURN_S, "streaming", /heard you \(turn 2\): so it goes/);
    screen.do("send-keys", "Escape");
    await screen.shows(TURN_S, "connected | aborted");
    const { sessions } = await cli.call("sessions.list");
    expect(sessions[0].status === "killed" && sessions[0].hasActiveRun === false, "the turn was killed", sessions[0]);
  });
  await one("/status is answered", async () => {
    await screen.say("/status");
    await screen.shows(TURN_S, /Crabtree \d+\.\d+/, "Model: crabtree/offline", "agent:main:main (idle");
  });
  await one("the next message is answered as ever", async () => {
    await screen.say("hello again");
    await screen.shows(TURN_S, "(turn 3): hello again", "connected | idle");
  });
}

async function manage(screen, cli, one) {
  await one("a message sent while a turn runs is shown, and answered after it", async () => {
    await screen.say(`${LONG}and that was all`);
    await screen.shows(TURN_S, "streaming", /\(turn 4\): so it goes/);
    await screen.say("meanwhile");
    const text = await screen.shows(TURN_S, "streaming", /\(turn 4\).* meanwhile /);
    expect(text.split("and that was all").length === 2, "a turn that still runs", text);
    await screen.shows(TURN_S, /\(turn 4\).*and that was all meanwhile .*\(turn 5\): meanwhile /, "connected | idle");
  });
  await one("/stop aborts", async () => {
    await screen.say(LONG.repeat(10));
    await screen.shows(TURN_S, "streaming", /\(turn 6\): so it goes/);
    await screen.say("/stop");
    await screen.shows(TURN_S, "connected | aborted");
  });
  await one("/sessions offers the other sessions, and Enter opens one", async () => {
    await cli.ok("agent", "--session-key", "agent:main:other", "--message", "said elsewhere");
    await screen.say("/sessions");
    await screen.shows(TURN_S, "Filter:", "said elsewhere (other)");
    await screen.say("elsewhere");
    await screen.shows(TURN_S, "| session other |", /\(turn 1\): said elsewhere /);
    await screen.say("/session main");
    await screen.shows(TURN_S, MAIN, /\(turn 5\): meanwhile /);
  });
  await one("/think sets the level of the session", async () => {
    await screen.say("/think off");
    await screen.shows(TURN_S, "thinking set to off");
  });
  await one("/reset clears the session", async () => {
    await screen.say("/reset");
    await screen.shows(TURN_S, "session agent:main:main reset");
  });
  await one("/new opens a new session", async () => {
    await screen.say("/new");
    await screen.shows(TURN_S, "new session: agent:main:tui-");
    await screen.say("hello, new one");
    await screen.shows(TURN_S, "(turn 1): hello, new one", "connected | idle");
    await screen.say("/session main");
    await screen.shows(TURN_S, MAIN);
  });
}

/** Last: with a screen that has lived through all the rest. */
async function survive(screen, gateway, one) {
  await one("kill -9, start: it connects again, shows the history, and is answered", async () => {
    await screen.say("before the crash");
    await screen.shows(TURN_S, /heard you \(turn \d+\): before the crash/, "connected | idle");
    await gateway.kill();
    await screen.shows(TURN_S, "disconnected");
    await gateway.start();
    await screen.shows(TURN_S, "gateway reconnected | idle", /heard you \(turn \d+\): before the crash/);
    await screen.say("after the crash");
    await screen.shows(TURN_S, /before the crash.*heard you \(turn \d+\): after the crash/, "| idle");
  });
}
