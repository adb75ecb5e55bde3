// One line a check, and what checks are made of.

let passed = 0;
let failed = 0;

/** Runs one check and reports it. Returns what it returns, or `undefined` if it failed. */
export async function check(name, body, onFailure = () => "") {
  const start = performance.now();
  const line = (word) => `${word} ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)`;
  try {
    const result = await body();
    passed += 1;
    console.log(line("PASS"));
    return result;
  } catch (error) {
    failed += 1;
    console.log(line("FAIL"));
    console.log(indent(`${error?.message ?? error}\n${onFailure()}`));
    return undefined;
  }
}

/** The closing line. True if nothing failed. */
export function summary() {
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0;
}

/** Fails with `what` and the value that was found instead. */
export function expect(holds, what, found) {
  if (!holds) throw new Error(found === undefined ? what : `${what}; found ${brief(found)}`);
}

/** Waits until `probe` returns something truthy, and returns it. */
export async function until(what, seconds, probe) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await sleep(50);
  }
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function brief(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text?.length > 600 ? `${text.slice(0, 600)}…` : text;
}

const indent = (text) => text.trimEnd().replace(/^/gm, "     ");
