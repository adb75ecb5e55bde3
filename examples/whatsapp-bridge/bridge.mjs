#!/usr/bin/env node
// WhatsApp for Crabtree: a channel driver (examples/drivers/README.md) that speaks with WhatsApp through baileys.
// The gateway runs it as `node bridge.mjs --state DIR`; credentials and what is not acknowledged live in DIR.
import { mkdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { Driver } from "./driver.mjs";
import { own } from "./owner.mjs";
import { WhatsApp } from "./whatsapp.mjs";

// What others print would be taken for frames, and libsignal prints its keys.
for (const method of ["log", "info", "debug", "warn", "error"]) console[method] = () => {};
process.umask(0o077);

const { values: options } = parseArgs({
  options: { state: { type: "string" }, "no-receipts": { type: "boolean", default: false } },
});
const fail = (words) => {
  process.stderr.write(`${words}\n`);
  process.exit(1);
};
process.on("SIGTERM", () => process.exit(0));
process.on("unhandledRejection", (error) => fail(`unexpected: ${error?.message ?? error}`));

if (!options.state) fail("say where the credentials are: --state DIR");
mkdirSync(options.state, { recursive: true, mode: 0o700 });
const owner = own(options.state);
if (owner) fail(`process ${owner} uses ${options.state}: one bridge an account`);
// Tests bring another.
const baileys = await import(process.env.BAILEYS ?? "baileys").catch((error) =>
  fail(`baileys cannot be loaded, run npm ci beside bridge.mjs: ${error.message}`),
);

const driver = new Driver({
  driver: "crabtree-whatsapp-bridge/1.0.0",
  capabilities: {
    text_limit: 65536,
    edits_every_ms: 1500,
    typing: true,
    reactions: true,
    files: true,
  },
});
const whatsapp = new WhatsApp(baileys, { driver, state: options.state, receipts: !options["no-receipts"] });
driver.start(whatsapp);
