// Runs all checks: node run.mjs BINARY WORK_DIR (see the script `run`).
import { summary } from "./checks.mjs";
import { stopAll } from "./gateway.mjs";
import { checkCli } from "./cli.mjs";
import { checkGatewayClient } from "./gateway-client.mjs";

const [binary, work] = process.argv.slice(2);
const stock = process.env.CRABTREE_STOCK_DIR;

process.on("exit", stopAll);
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => process.exit(1));

await checkGatewayClient({ binary, work, stock });
await checkCli({ binary, work, stock });
process.exit(summary() ? 0 : 1);
