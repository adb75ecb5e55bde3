// What models write, as elements: fences, headings, lists, quotes, emphasis, code and links. Whatever else stays text;
// nothing becomes markup by itself.
import { h } from "./dom.js";

const FENCE = /^\s*(```+|~~~+)\s*(\S*)/;
const ITEM = /^(\s*)(?:[-*+]|(\d+)[.)])\s+(.*)$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const INLINE = /`([^`]+)`|\*\*(.+?)\*\*|__(.+?)__|\*([^*\s][^*]*)\*|~~(.+?)~~|\[([^\]]+)\]\((https?:[^\s)]+)\)|(https?:\/\/[^\s<>)\]]+)/g;

/** The blocks of a text. */
export function markdown(text) {
  const lines = text.split("\n");
  const blocks = [];
  while (lines.length) blocks.push(...block(lines));
  return blocks;
}

/** Takes the next block off `lines`. */
function block(lines) {
  const fence = FENCE.exec(lines[0]);
  if (fence) return [code(lines, fence[1])];
  const heading = HEADING.exec(lines[0]);
  if (heading) {
    lines.shift();
    return [h("p", {}, h("strong", {}, inline(heading[2])))];
  }
  if (ITEM.test(lines[0])) return [list(lines)];
  if (lines[0].startsWith(">")) return [h("blockquote", {}, markdown(take(lines, (line) => line.startsWith(">")).map((line) => line.replace(/^> ?/, "")).join("\n")))];
  if (!lines[0].trim()) {
    lines.shift();
    return [];
  }
  const text = take(lines, (line, first) => first || (line.trim() && !FENCE.test(line) && !HEADING.test(line) && !ITEM.test(line) && !line.startsWith(">")));
  return [h("p", {}, text.flatMap((line, place) => (place ? [h("br"), ...inline(line)] : inline(line))))];
}

/** Takes lines off as long as they belong together. */
function take(lines, belongs) {
  const taken = [];
  while (lines.length && belongs(lines[0], !taken.length)) taken.push(lines.shift());
  return taken;
}

/** A fence that is still open (a text that streams) goes on to the end. */
function code(lines, mark) {
  lines.shift();
  const body = take(lines, (line) => !line.trim().startsWith(mark));
  lines.shift();
  return h("pre", {}, h("code", {}, body.join("\n")));
}

function list(lines) {
  const [, indent, number] = ITEM.exec(lines[0]);
  const items = [];
  while (lines.length) {
    const item = ITEM.exec(lines[0]);
    if (!item || item[1].length < indent.length) break;
    if (item[1].length > indent.length) {
      items.at(-1).append(list(lines));
    } else {
      items.push(h("li", {}, inline(item[3])));
      lines.shift();
    }
  }
  return number ? h("ol", { start: number }, items) : h("ul", {}, items);
}

function inline(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, strong, strong2, em, gone, label, url, bare] = found;
    parts.push(text.slice(end, found.index));
    end = found.index + whole.length;
    if (code) parts.push(h("code", {}, code));
    else if (strong ?? strong2) parts.push(h("strong", {}, inline(strong ?? strong2)));
    else if (em) parts.push(h("em", {}, inline(em)));
    else if (gone) parts.push(h("s", {}, inline(gone)));
    else parts.push(h("a", { href: url ?? bare, rel: "noreferrer noopener", target: "_blank" }, label ?? bare));
  }
  return [...parts, text.slice(end)];
}
