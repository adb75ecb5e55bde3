// A gateway in a process of its own, on loopback, with a state directory of its own.
import { execFileSync, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { createServer } from "node:net";
import { until } from "./checks.mjs";

const READY_S = 30;
const STOP_S = 20;

const living = new Set();

/** Last resort: nothing that was started here stays. */
export function stopAll() {
  for (const { child, file } of living) {
    child.kill("SIGKILL");
    rmSync(file, { force: true });
  }
}

/** Notes a child until it has ended: here, and as a file for the caller of the whole. */
export function track(child, work) {
  const entry = { child, file: `${work}/pids/${child.pid}` };
  if (child.pid === undefined) return child;
  writeFileSync(entry.file, "");
  living.add(entry);
  child.once("exit", () => {
    living.delete(entry);
    rmSync(entry.file, { force: true });
  });
  return child;
}

/** The environment of everything started here: nothing of the caller's but the path. */
export const cleanEnv = (home, more) => ({ PATH: process.env.PATH, LANG: "C.UTF-8", HOME: home, TMPDIR: home, ...more });

export class Gateway {
  /** Starts one whose files lie in `work/name`, with this configuration. */
  static async start({ binary, work }, name, config = {}) {
    const gateway = new Gateway(binary, work, `${work}/${name}`);
    gateway.tls = config.gateway?.tls?.enabled === true;
    mkdirSync(gateway.state, { recursive: true, mode: 0o700 });
    writeFileSync(`${gateway.state}/openclaw.json`, JSON.stringify(config), { mode: 0o600 });
    gateway.port = await freePort();
    await gateway.start();
    gateway.token = gateway.run("token").trim();
    return gateway;
  }

  constructor(binary, work, dir) {
    Object.assign(this, { binary, work, dir, logFile: `${dir}/gateway.log` });
  }

  get url() {
    return this.origin.replace("http", "ws");
  }

  /** Where its pages are. */
  get origin() {
    return `http${this.tls ? "s" : ""}://127.0.0.1:${this.port}`;
  }

  get state() {
    return `${this.dir}/state`;
  }

  get env() {
    return cleanEnv(this.dir, {
      CRABTREE_STATE_DIR: this.state,
      CRABTREE_GATEWAY__PORT: String(this.port),
    });
  }

  /** Starts it, also again on the same state and port, and waits until it serves. */
  async start() {
    const log = openSync(this.logFile, "a");
    this.child = track(spawn(this.binary, ["run"], { env: this.env, stdio: ["ignore", log, log] }), this.work);
    closeSync(log);
    this.ended = new Promise((done) => this.child.once("exit", (code, signal) => done(signal ?? code)));
    this.child.once("error", (error) => console.log(`cannot start ${this.binary}: ${error.message}`));
    await until("the gateway is ready", READY_S, async () => {
      if (this.child.exitCode !== null || this.child.signalCode) throw new Error(`the gateway ended:\n${this.log()}`);
      const answer = await (this.tls ? sealed : fetch)(`${this.origin}/ready`).catch(() => null);
      return answer?.ok;
    });
  }

  /** Runs a command of our own command line here; what it prints. */
  run(...args) {
    return execFileSync(this.binary, args, { env: this.env, timeout: 20_000 }).toString();
  }

  call(method, params = {}) {
    return JSON.parse(this.run("call", method, JSON.stringify(params), "--json"));
  }

  /** `kill -9`. */
  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  /** SIGTERM; returns its exit code. */
  async stop() {
    this.child.kill("SIGTERM");
    const late = setTimeout(() => this.child.kill("SIGKILL"), STOP_S * 1000);
    const code = await this.ended;
    clearTimeout(late);
    return code;
  }

  /** The end of its log. */
  log() {
    return readFileSync(this.logFile, "utf8").split("\n").slice(-40).join("\n");
  }

  /** How often its log, over all its lives, tells of a panic. */
  panics() {
    return readFileSync(this.logFile, "utf8").match(/panicked/g)?.length ?? 0;
  }
}

/** What is answered by who has any certificate. */
function sealed(url) {
  return new Promise((done, fail) => {
    const asked = request(url, { rejectUnauthorized: false }, (answer) => {
      answer.resume();
      done({ ok: answer.statusCode === 200 });
    });
    asked.once("error", fail).end();
  });
}

export function freePort() {
  return new Promise((done, fail) => {
    const server = createServer().once("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}
