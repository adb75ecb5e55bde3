// What WhatsApp's messages mean, and what ours look like there.

// Bytes of a file that is handed in or sent.
export const MAX_FILE = 15 * 1024 * 1024;

const MEDIA = {
  imageMessage: "image",
  videoMessage: "video",
  audioMessage: "audio",
  documentMessage: "document",
  stickerMessage: "sticker",
};

// A person's or chat's id as the gateway knows it: `+49…` for a number, and the rest as it is.
export function idOf(jid) {
  const [user, server] = jid.split("@");
  const number = user.split(":")[0];
  return server === "s.whatsapp.net" ? `+${number}` : `${number}@${server}`;
}

// The way back.
export function jidOf(id) {
  return id.includes("@") ? id : `${id.replace(/\D/g, "")}@s.whatsapp.net`;
}

// WhatsApp names people by number or by an id that hides it; both may be told.
function personOf(jid, alt) {
  return [jid, alt].find((one) => one?.endsWith("@s.whatsapp.net")) ?? jid;
}

// What a message is for the gateway, or null when it is none for anybody. `me` are the ids of this account.
export function understood(baileys, { key, message, pushName, messageTimestamp }, me) {
  const content = baileys.normalizeMessageContent(message);
  const type = content && baileys.getContentType(content);
  if (!type || key.fromMe || !/@(g\.us|lid|s\.whatsapp\.net)$/.test(key.remoteJid ?? "")) return null;
  const group = key.remoteJid.endsWith("@g.us");
  const chat = group ? key.remoteJid : personOf(key.remoteJid, key.remoteJidAlt);
  const sender = group ? personOf(key.participant ?? "", key.participantAlt) : chat;
  const part = content[type];
  const text = textOf(content, type);
  const media = MEDIA[type] && { kind: MEDIA[type], part };
  if (!sender || (!text && !media)) return null;
  const context = part?.contextInfo;
  const mine = (jid) => Boolean(jid) && me.includes(idOf(jid));
  return {
    media,
    message: {
      channel: { kind: group ? "group" : "direct", id: idOf(chat) },
      sender: { id: idOf(sender), ...(pushName && { name: pushName.slice(0, 100) }) },
      content: text,
      mentions_me: (context?.mentionedJid ?? []).some(mine),
      replies_to_me: mine(context?.participant) && Boolean(context?.stanzaId),
      ...(context?.stanzaId && { quote: quoteOf(baileys, context) }),
      sent_at: Number(messageTimestamp) * 1000,
    },
  };
}

function textOf(content, type) {
  const part = content[type];
  switch (type) {
    case "conversation":
      return part;
    case "extendedTextMessage":
      return part.text ?? "";
    case "locationMessage":
      return `[location ${part.degreesLatitude}, ${part.degreesLongitude}${part.name ? ` ${part.name}` : ""}]`;
    case "contactMessage":
      return `[contact ${part.displayName ?? ""}]`;
    default:
      return MEDIA[type] ? (part.caption ?? "") : "";
  }
}

function quoteOf(baileys, { stanzaId, participant, quotedMessage }) {
  const content = baileys.normalizeMessageContent(quotedMessage);
  const type = content && baileys.getContentType(content);
  return {
    id: stanzaId,
    ...(participant && { sender: idOf(participant) }),
    content: type ? textOf(content, type) : "",
  };
}

// Markdown as WhatsApp writes it; code stays as it is.
export function formatted(markdown) {
  return markdown
    .split(/(```[\s\S]*?(?:```|$)|`[^`\n]*`)/)
    .map((piece, n) => (n % 2 ? piece : emphasised(piece)))
    .join("");
}

function emphasised(text) {
  return text
    .replace(/(^|[^*\w])\*(?![*\s])([^*\n]+?)\*(?![*\w])/g, "$1_$2_")
    .replace(/\*\*([^\n]+?)\*\*/g, "*$1*")
    .replace(/__([^\n]+?)__/g, "*$1*")
    .replace(/~~([^\n]+?)~~/g, "~$1~")
    .replace(/^#{1,6} +(.+)$/gm, (_, title) => `*${title.replaceAll("*", "")}*`)
    .replace(/\[([^\]\n]+)\]\((https?:[^)\s]+)\)/g, (_, words, url) => (words === url ? url : `${words} (${url})`));
}

// Who is named in a text as `@49…`.
export function mentioned(text) {
  return [...text.matchAll(/@\+?(\d{7,15})\b/g)].map(([, number]) => `${number}@s.whatsapp.net`);
}

// A file as baileys sends it.
export function media({ mimeType = "application/octet-stream", fileName, pieces }) {
  const bytes = Buffer.concat(pieces);
  const [kind] = mimeType.split("/");
  if (kind === "image" || kind === "video") return { [kind]: bytes, mimetype: mimeType };
  if (kind === "audio") return { audio: bytes, mimetype: mimeType, ptt: mimeType.includes("ogg") };
  return { document: bytes, mimetype: mimeType, fileName: fileName ?? "file" };
}
