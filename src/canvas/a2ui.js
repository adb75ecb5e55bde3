// A2UI 0.8: surfaces made of messages. Everything that comes in is data: it becomes text and known elements, never
// markup or script. Messages come from a2ui.jsonl of the canvas, or from whoever shows this page, by `openclawA2UI`.
(() => {
  "use strict";
  /** Elements of one surface, and components within each other: a surface that goes round in circles has an end. */
  const MAX_ELEMENTS = 5000;
  const MAX_DEPTH = 64;

  const surfaces = new Map();
  const home = document.getElementById("surfaces");
  const note = document.getElementById("note");

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const plain = () => Object.create(null);
  const surfaceOf = (id) => {
    if (!surfaces.has(id)) surfaces.set(id, { id, components: new Map(), data: plain(), root: null, styles: {}, tabs: new Map() });
    return surfaces.get(id);
  };

  // The data model.
  const steps = (path, base) => {
    const own = String(path ?? "").split("/").filter(Boolean);
    return String(path ?? "").startsWith("/") || !base ? own : [...base, ...own];
  };
  const isTree = (value) => typeof value === "object" && value !== null;
  const at = (data, path) =>
    path.reduce((value, step) => (isTree(value) && Object.hasOwn(value, step) ? value[step] : undefined), data);
  const put = (surface, path, value) => {
    if (path.length === 0) {
      if (isTree(value)) Object.assign(surface.data, value);
      return;
    }
    let place = surface.data;
    for (const step of path.slice(0, -1)) {
      if (!Object.hasOwn(place, step) || !isTree(place[step])) define(place, step, plain());
      place = place[step];
    }
    define(place, path.at(-1), value);
  };
  /** Also `__proto__` is only a name. */
  const define = (place, name, value) =>
    Object.defineProperty(place, name, { value, writable: true, enumerable: true, configurable: true });
  const valueOf = (entry) => {
    if ("valueMap" in entry) return treeOf(entry.valueMap);
    if ("valueArray" in entry) return (entry.valueArray ?? []).map(valueOf);
    return entry.valueString ?? entry.valueNumber ?? entry.valueBoolean;
  };
  const treeOf = (entries) => {
    const tree = plain();
    for (const entry of Array.isArray(entries) ? entries : []) define(tree, String(entry.key), valueOf(entry));
    return tree;
  };
  /** What a value is: written down, or in the data model. */
  const read = (bound, scope) => {
    if (!isTree(bound)) return bound;
    const literal = bound.literalString ?? bound.literalNumber ?? bound.literalBoolean ?? bound.literalArray;
    const found = bound.path === undefined ? undefined : at(scope.surface.data, steps(bound.path, scope.base));
    return found ?? literal;
  };
  const words = (bound, scope) => {
    const value = read(bound, scope);
    return value === undefined || value === null ? "" : isTree(value) ? JSON.stringify(value) : String(value);
  };
  const write = (bound, scope, value) => {
    if (isTree(bound) && bound.path !== undefined) put(scope.surface, steps(bound.path, scope.base), value);
  };

  // Messages.
  const apply = (message) => {
    const { surfaceUpdate, dataModelUpdate, beginRendering, deleteSurface } = message ?? {};
    if (surfaceUpdate?.surfaceId) {
      const surface = surfaceOf(surfaceUpdate.surfaceId);
      for (const part of surfaceUpdate.components ?? []) if (part?.id) surface.components.set(part.id, part);
    } else if (dataModelUpdate?.surfaceId) {
      const surface = surfaceOf(dataModelUpdate.surfaceId);
      put(surface, steps(dataModelUpdate.path), treeOf(dataModelUpdate.contents));
    } else if (beginRendering?.surfaceId) {
      const surface = surfaceOf(beginRendering.surfaceId);
      surface.root = beginRendering.root;
      surface.styles = beginRendering.styles ?? {};
    } else if (deleteSurface?.surfaceId) {
      surfaces.delete(deleteSurface.surfaceId);
    }
  };

  // Elements.
  const inner = (id, scope) => {
    const part = scope.surface.components.get(id);
    if (!part || scope.depth >= MAX_DEPTH || scope.left.count <= 0) return make("span", "unknown", part ? "…" : "");
    scope.left.count -= 1;
    const [kind, props] = Object.entries(part.component ?? {})[0] ?? ["", {}];
    const draw = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
    const element = draw ? draw(props ?? {}, { ...scope, depth: scope.depth + 1, id }) : make("span", "unknown", `[${kind}]`);
    if (Number.isFinite(part.weight)) element.style.flex = String(part.weight);
    element.dataset.component = id;
    return element;
  };
  const children = (list, scope) => {
    if (Array.isArray(list?.explicitList)) return list.explicitList.map((id) => inner(id, scope));
    if (!list?.template) return [];
    const base = steps(list.template.dataBinding, scope.base);
    const items = at(scope.surface.data, base);
    const keys = isTree(items) ? Object.keys(items) : [];
    return keys.map((key) => inner(list.template.componentId, { ...scope, base: [...base, key] }));
  };
  const placements = { start: "flex-start", end: "flex-end", center: "center", stretch: "stretch" };
  const spread = { ...placements, spaceBetween: "space-between", spaceAround: "space-around", spaceEvenly: "space-evenly" };
  const box = (className) => (props, scope) => {
    const element = make("div", className);
    if (props.direction === "horizontal") element.classList.add("horizontal");
    element.style.justifyContent = spread[props.distribution] ?? "";
    element.style.alignItems = placements[props.alignment] ?? "";
    element.append(...children(props.children, scope));
    return element;
  };
  const media = (tag) => (props, scope) => {
    const element = make(tag);
    element.controls = true;
    element.src = words(props.url, scope);
    if (props.description) element.setAttribute("aria-label", words(props.description, scope));
    return element;
  };
  const field = (className, label, input, scope) => {
    const element = make("label", className);
    const caption = make("span", "", words(label, scope));
    element.append(...(className === "check" ? [input, caption] : [caption, input]));
    return element;
  };
  const inputs = { shortText: "text", number: "number", date: "date", obscured: "password" };
  const kinds = {
    Text(props, scope) {
      const hint = props.usageHint;
      const tag = /^h[1-5]$/.test(hint) ? hint : "p";
      return make(tag, hint === "caption" ? "caption" : "", words(props.text, scope));
    },
    Image(props, scope) {
      const element = make("img", /^\w+$/.test(props.usageHint ?? "") ? props.usageHint : "");
      element.src = words(props.url, scope);
      element.alt = words(props.altText, scope);
      if (/^[a-z-]+$/.test(props.fit ?? "")) element.style.objectFit = props.fit;
      return element;
    },
    Icon: (props, scope) => make("span", "icon-name", words(props.name, scope)),
    Video: media("video"),
    AudioPlayer: media("audio"),
    Row: box("row"),
    Column: box("column"),
    List: box("list"),
    Card(props, scope) {
      const element = make("section", "card");
      element.append(inner(props.child, scope));
      return element;
    },
    Tabs(props, scope) {
      const element = make("div", "column");
      const items = Array.isArray(props.tabItems) ? props.tabItems : [];
      const chosen = Math.min(scope.surface.tabs.get(scope.id) ?? 0, Math.max(0, items.length - 1));
      const bar = make("div", "tabs");
      bar.setAttribute("role", "tablist");
      items.forEach((item, number) => {
        const tab = make("button", "", words(item.title, scope));
        tab.setAttribute("role", "tab");
        tab.setAttribute("aria-selected", String(number === chosen));
        tab.onclick = () => {
          scope.surface.tabs.set(scope.id, number);
          render();
        };
        bar.append(tab);
      });
      element.append(bar);
      if (items[chosen]) element.append(inner(items[chosen].child, scope));
      return element;
    },
    Divider: (props) => make("hr", props.axis === "vertical" ? "divider vertical" : "divider"),
    Modal(props, scope) {
      const element = make("div");
      const opener = inner(props.entryPointChild, scope);
      const dialog = make("dialog");
      dialog.append(inner(props.contentChild, scope));
      opener.addEventListener("click", () => dialog.showModal());
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
      element.append(opener, dialog);
      return element;
    },
    Button(props, scope) {
      const element = make("button", props.primary ? "primary" : "");
      element.append(inner(props.child, scope));
      element.onclick = () => act(props.action ?? {}, scope);
      return element;
    },
    CheckBox(props, scope) {
      const input = make("input");
      input.type = "checkbox";
      input.checked = read(props.value, scope) === true;
      input.onchange = () => write(props.value, scope, input.checked);
      return field("check", props.label, input, scope);
    },
    TextField(props, scope) {
      const input = make(props.textFieldType === "longText" ? "textarea" : "input");
      if (input.tagName === "INPUT") input.type = inputs[props.textFieldType] ?? "text";
      input.value = words(props.text, scope);
      input.oninput = () => write(props.text, scope, input.value);
      return field("field", props.label, input, scope);
    },
    DateTimeInput(props, scope) {
      const input = make("input");
      input.type = props.enableTime ? (props.enableDate === false ? "time" : "datetime-local") : "date";
      input.value = words(props.value, scope);
      input.oninput = () => write(props.value, scope, input.value);
      return field("field", props.label, input, scope);
    },
    MultipleChoice(props, scope) {
      const input = make("select");
      input.multiple = props.maxAllowedSelections !== 1;
      const chosen = [read(props.selections, scope) ?? []].flatMap((list) => (isTree(list) ? Object.values(list) : [list]));
      for (const option of Array.isArray(props.options) ? props.options : []) {
        const element = make("option", "", words(option.label, scope));
        element.value = String(option.value);
        element.selected = chosen.includes(option.value);
        input.append(element);
      }
      input.onchange = () => write(props.selections, scope, [...input.selectedOptions].map((option) => option.value));
      return field("field", props.label ?? props.description, input, scope);
    },
    Slider(props, scope) {
      const input = make("input");
      input.type = "range";
      input.min = String(props.minValue ?? 0);
      input.max = String(props.maxValue ?? 100);
      input.value = words(props.value, scope);
      input.oninput = () => write(props.value, scope, Number(input.value));
      return field("field", props.label, input, scope);
    },
  };

  /** Tells what a person did: whoever shows this page, if it wants to know. */
  const act = (action, scope) => {
    const context = {};
    for (const { key, value } of Array.isArray(action.context) ? action.context : []) define(context, String(key), read(value, scope));
    const userAction = {
      id: `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`,
      name: String(action.name ?? ""),
      surfaceId: scope.surface.id,
      sourceComponentId: scope.id,
      timestamp: new Date().toISOString(),
      context,
    };
    window.dispatchEvent(new CustomEvent("a2uiaction", { detail: userAction }));
    window.webkit?.messageHandlers?.openclawCanvasA2UIAction?.postMessage({ userAction });
    window.openclawCanvasA2UIAction?.postMessage?.(JSON.stringify({ userAction }));
  };

  const render = () => {
    const shown = [...surfaces.values()].filter((surface) => surface.root !== null);
    home.replaceChildren(...shown.map((surface) => {
      const element = make("section", "surface");
      element.dataset.surface = surface.id;
      const { primaryColor, font } = surface.styles;
      if (/^#[0-9a-f]{3,8}$/i.test(primaryColor ?? "")) element.style.setProperty("--accent", primaryColor);
      if (/^[\w ,'"-]+$/.test(font ?? "")) element.style.fontFamily = font;
      element.append(inner(surface.root, { surface, base: null, depth: 0, left: { count: MAX_ELEMENTS } }));
      return element;
    }));
    note.hidden = shown.length > 0;
    note.textContent = "Nothing is shown at the moment.";
  };

  const applyMessages = (messages) => {
    for (const message of messages) apply(message);
    render();
    return { ok: true, surfaces: [...surfaces.keys()] };
  };
  const reset = () => {
    surfaces.clear();
    render();
    return { ok: true };
  };
  globalThis.openclawA2UI = { applyMessages, reset, getSurfaces: () => [...surfaces.keys()] };

  // Messages of the gateway.
  const parsed = (line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  };
  let known = null;
  const load = async () => {
    const answer = await fetch("../canvas/a2ui.jsonl", { cache: "no-store" });
    const text = answer.ok ? await answer.text() : "";
    if (text === known) return;
    known = text;
    surfaces.clear();
    applyMessages(text.split("\n").filter(Boolean).flatMap(parsed));
  };
  render();
  load().catch(() => {});
  new EventSource("../canvas/.events").onmessage = () => load().catch(() => {});
})();
