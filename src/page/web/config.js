// The configuration in force, secrets redacted.
import { h } from "./dom.js";

export function draw(view, link) {
  const path = h("p", { class: "faint" });
  const problems = h("ul", { class: "warn" });
  const text = h("pre", { class: "wraps", tabindex: "0", "aria-label": "Configuration" });
  view.append(h("h1", {}, "Configuration"), path, problems, text);
  async function read() {
    try {
      const got = await link.request("config.get");
      path.textContent = got.exists === false ? `${got.path} does not exist: everything is as it comes.`
        : `${got.path}: change the file; a change takes effect when it is saved, and a broken file changes nothing.`;
      problems.replaceChildren(...[...(got.issues ?? []), ...(got.warnings ?? [])].map((issue) => h("li", {}, `${issue.path ?? ""} ${issue.message}`)));
      text.textContent = got.raw || JSON.stringify(got.config, null, 2);
    } catch (error) {
      path.textContent = error.message;
    }
  }
  read();
  const stops = [link.on("up", read), link.on("event:config.changed", read)];
  return () => stops.forEach((stop) => stop());
}
