// What the stock CLI shows of things this gateway does not have, or has little of: clean pages, no complaints.
import { check, expect } from "./checks.mjs";
import { Cli } from "./cli.mjs";
import { Gateway } from "./gateway.mjs";

const empty = (...lists) => (page) => lists.every((list) => page[list]?.length === 0);

/** Commands that print JSON, and what has to be in it. */
const PAGES = [
  ["cron list", empty("jobs")],
  ["cron status", (page) => page.enabled === true && page.jobs === 0],
  ["nodes status", empty("nodes")],
  ["nodes list", empty("pending", "paired")],
  ["channels status", (page) => Object.keys(page.channels ?? {}).length === 0],
  ["skills list", empty("skills")],
  ["hooks list", empty("hooks")],
  ["audit", empty("events")],
  ["users list", ({ profiles }) => profiles.length === 1 && profiles[0].id === "gateway-owner"],
  ["gateway stability", (page) => page.events.length === page.count],
  ["gateway usage-cost --days 7", (page) => page.daily.length === 7 && page.totals.totalCost === 0],
  ["approvals get --gateway", () => true],
  ["approvals pending", () => true],
  ["devices list", empty("pending", "paired")],
  ["status --deep", (page) => page.gateway.reachable === true],
];

export async function checkPages(env) {
  const gateway = await Gateway.start(env, "pages-gateway");
  const cli = new Cli(env, "pages", { url: gateway.url, token: gateway.token });
  for (const [command, holds] of PAGES) {
    await check(`page: ${command}`, async () => {
      const page = await cli.json(...command.split(" "), "--json");
      expect(holds(page), "what there is", page);
    }, () => gateway.log());
  }
  await check("page: the gateway ends with code 0", async () => expect((await gateway.stop()) === 0, "exit code 0"));
}
