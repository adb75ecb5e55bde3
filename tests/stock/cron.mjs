// Jobs with a schedule, by the stock `openclaw cron` commands.
import { check, expect } from "./checks.mjs";
import { Cli } from "./cli.mjs";
import { Gateway } from "./gateway.mjs";

export async function checkCron(env) {
  const gateway = await Gateway.start(env, "cron-gateway");
  const cli = new Cli(env, "cron-cli", { url: gateway.url, token: gateway.token });
  const one = (name, body) => check(`cron: ${name}`, body, () => gateway.log());
  let id;
  await one("cron add makes a job", async () => {
    const job = await cli.json("cron", "add", "--name", "hourly", "--every", "1h", "--session", "isolated",
      "--message", "look after the queue", "--no-deliver", "--json");
    id = job.id;
    expect(job.schedule.everyMs === 3_600_000 && job.payload.kind === "agentTurn", "the job as it was asked for", job);
  });
  await one("cron list shows it, on a page that passes its checks", async () => {
    const { jobs, total } = await cli.json("cron", "list", "--json");
    expect(total === 1 && jobs[0].id === id, "the one job", { jobs, total });
  });
  await one("cron run --wait runs it to its end", async () => {
    const { code, out, err } = await cli.run("cron", "run", id, "--wait", "--poll-interval", "500ms");
    expect(code === 0, "exit code 0", `${code}, ${out}${err}`);
  });
  await one("cron runs shows what came of it", async () => {
    const { entries } = await cli.json("cron", "runs", id);
    expect(entries.length === 1 && entries[0].status === "ok", "one run that went well", entries);
    expect(/look after the queue/.test(entries[0].summary), "the agent's answer", entries[0]);
  });
  await one("its run is a task: listed, got, and cancelled no more", async () => {
    const { tasks } = await cli.call("tasks.list", { status: ["completed"], sortBy: "endedAt", limit: 200 });
    expect(tasks.length === 1 && tasks[0].sourceId === id && tasks[0].runtime === "cron", "the one run", tasks);
    const { task } = await cli.call("tasks.get", { taskId: tasks[0].taskId });
    expect(task.prompt === "look after the queue", "what was to be done", task);
    const over = await cli.call("tasks.cancel", { taskId: task.taskId });
    expect(over.found && !over.cancelled, "it is over", over);
  });
  await one("cron rm removes it", async () => {
    const gone = await cli.json("cron", "rm", id, "--json");
    expect(gone.ok === true && gone.removed === true, "removed", gone);
  });
  await gateway.stop();
}
