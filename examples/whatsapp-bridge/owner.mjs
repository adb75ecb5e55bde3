// One bridge a state directory: two would take each other's login away.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// Takes the directory for this process, until it ends; or tells who has it.
export function own(state) {
  const file = join(state, "owner.lock");
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      writeFileSync(file, mark(process.pid), { flag: "wx" });
      process.on("exit", () => rmSync(file, { force: true }));
      return null;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    const held = read(file);
    const pid = Number.parseInt(held, 10);
    if (pid && lives(pid) && mark(pid) === held) return pid;
    // It has ended without a word, or another process has its number now.
    rmSync(file, { force: true });
  }
  return "another";
}

// A process and when it began, where that can be known.
function mark(pid) {
  const stat = read(`/proc/${pid}/stat`);
  return `${pid} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""}`;
}

function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function lives(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}
