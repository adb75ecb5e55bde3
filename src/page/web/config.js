// The configuration: shown without its secrets, changed as text, and checked by the gateway before anything is written.
import { action, h, toast } from "./dom.js";

export function draw(view, link) {
  const path = h("p", { class: "faint" });
  const problems = h("ul", { class: "bad", role: "alert" });
  const text = h("textarea", { class: "code", spellcheck: "false", rows: 24, "aria-label": "Configuration", oninput: tell });
  const state = h("span", { class: "faint", role: "status" });
  const writes = link.has("config.set") && link.may("operator.admin");
  const save = action("Save", write, { class: "main" });
  const revert = action("Discard changes", read);
  text.readOnly = !writes;
  view.append(h("h1", {}, "Configuration"), path, problems, text, h("div", { class: "row" }, writes ? [save, revert] : [], state));
  let shown = { raw: "", hash: null };

  function tell() {
    const changed = text.value !== shown.raw;
    save.disabled = revert.disabled = !changed;
    state.textContent = changed ? "Not saved." : "";
  }
  async function read() {
    const got = await link.request("config.get");
    shown = { raw: got.raw || JSON.stringify(got.config, null, 2), hash: got.hash };
    path.textContent = got.exists === false ? `${got.path} does not exist yet: everything is as it comes.` : got.path;
    problems.replaceChildren(...[...(got.issues ?? []), ...(got.warnings ?? [])].map(drawProblem));
    text.value = shown.raw;
    tell();
  }
  async function write() {
    try {
      await link.request("config.set", { raw: text.value, baseHash: shown.hash });
    } catch (error) {
      const issues = error.details?.issues ?? [{ message: error.message }];
      problems.replaceChildren(...issues.map(drawProblem));
      state.textContent = "Nothing was written.";
      return;
    }
    toast("Saved, and in force.");
    await read();
  }
  /** What is being written here is not thrown away for what was written elsewhere. */
  async function changed() {
    if (text.value === shown.raw) await read().catch((error) => (path.textContent = error.message));
    else state.textContent = "Not saved, and changed elsewhere meanwhile: saving will be refused. Copy what you need, and discard.";
  }
  changed();
  const stops = [link.on("up", changed), link.on("event:config.changed", changed)];
  return () => stops.forEach((stop) => stop());
}

function drawProblem(problem) {
  if (typeof problem === "string") return h("li", { class: "warn" }, problem);
  return h("li", {}, [problem.path, problem.message].filter(Boolean).join(": "));
}
