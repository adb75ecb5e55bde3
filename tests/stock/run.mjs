// Runs all checks: node run.mjs BINARY WORK_DIR (see the script `run`).
import { check, summary } from "./checks.mjs";
import { stopAll } from "./gateway.mjs";
import { checkAcp } from "./acp.mjs";
import { checkCanvas } from "./canvas.mjs";
import { checkCli } from "./cli.mjs";
import { checkCron } from "./cron.mjs";
import { checkDevices } from "./devices.mjs";
import { checkGatewayClient } from "./gateway-client.mjs";
import { checkImport } from "./import.mjs";
import { checkMcp } from "./mcp.mjs";
import { checkNodes } from "./nodes.mjs";
import { checkOpenAi } from "./openai.mjs";
import { checkOwnPage } from "./own-page.mjs";
import { checkPages } from "./pages.mjs";
import { checkStdio } from "./stdio.mjs";
import { checkTls } from "./tls.mjs";
import { checkTools } from "./tools.mjs";
import { checkTui } from "./tui.mjs";
import { checkUi } from "./ui.mjs";
import { checkUiPages } from "./ui-pages.mjs";
import { checkUiTerminal } from "./ui-terminal.mjs";
import { checkWatch } from "./watch.mjs";
import { checkWhatsApp } from "./whatsapp.mjs";

const [binary, work] = process.argv.slice(2);
const stock = process.env.CRABTREE_STOCK_DIR;

process.on("exit", stopAll);
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => process.exit(1));

const suites = {
  "gateway-client": checkGatewayClient,
  cli: checkCli,
  tls: checkTls,
  pages: checkPages,
  tui: checkTui,
  watch: checkWatch,
  ui: checkUi,
  "ui-pages": checkUiPages,
  "ui-terminal": checkUiTerminal,
  stdio: checkStdio,
  tools: checkTools,
  canvas: checkCanvas,
  mcp: checkMcp,
  cron: checkCron,
  acp: checkAcp,
  nodes: checkNodes,
  devices: checkDevices,
  import: checkImport,
  "own-page": checkOwnPage,
  whatsapp: checkWhatsApp,
  openai: checkOpenAi,
};
for (const [name, suite] of Object.entries(suites)) {
  try {
    await suite({ binary, work, stock });
  } catch (error) {
    await check(`${name}: the checks can be made`, () => Promise.reject(error));
  }
}
process.exit(summary() ? 0 : 1);
