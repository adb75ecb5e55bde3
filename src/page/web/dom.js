// Elements, and words for figures. Text is always set as text: nothing that came from anywhere becomes markup.

/** An element. Properties that begin with `on` are listeners; `class` and others are attributes; `null` leaves out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Brings the children of `parent` in line with `items`: what stays keeps its element, and with it focus and selection.
 * `draw(item, element | null)` makes an element, or brings an old one up to date; it returns it.
 */
export function align(parent, items, keyOf, draw) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const had = old.get(key) ?? null;
    old.delete(key);
    const element = draw(item, had);
    element.dataset.key = key;
    if (had && had !== element) had.replaceWith(element);
    if (element === before) before = before.nextElementSibling;
    else parent.insertBefore(element, before);
  }
  for (const gone of old.values()) gone.remove();
}

/** Says something in a corner for a while; errors stay longer. */
export function toast(text, kind = "") {
  const note = h("p", { class: kind }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 12_000 : 5_000);
}

/** A button that does something once at a time, and says what went wrong. */
export function action(label, act, props = {}) {
  const button = h("button", { type: "button", ...props, onclick: run }, label);
  async function run() {
    button.disabled = true;
    try {
      await act();
    } catch (error) {
      toast(error.message, "bad");
    } finally {
      button.disabled = false;
    }
  }
  return button;
}

/** How long ago, or from now, in one unit. */
export function ago(ms) {
  if (!ms) return "never";
  const s = Math.round(Math.abs(Date.now() - ms) / 1000);
  const text = s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 86_400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} d`;
  return ms > Date.now() + 1000 ? `in ${text}` : `${text} ago`;
}

/** A span of time in one unit. */
export function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ago(Date.now() - ms).replace(" ago", "");
}
