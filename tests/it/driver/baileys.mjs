// A WhatsApp that is not there: what the bridge uses of baileys, in the hand of a test. It shows a QR code, lets
// itself be logged in, hands out a few messages, and tells what it was told as messages from `+4999`.
import { EventEmitter } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";

export const DisconnectReason = {
  loggedOut: 401,
  forbidden: 403,
  multideviceMismatch: 411,
  connectionReplaced: 440,
  restartRequired: 515,
};
export const BufferJSON = { replacer: (_, value) => value, reviver: (_, value) => value };
export const normalizeMessageContent = (content) => content ?? undefined;
export const getContentType = (content) => Object.keys(content)[0];
export const downloadMediaMessage = async ({ message }) => {
  const bytes = Object.values(message)[0].stub;
  return Readable.from([Buffer.from(bytes.slice(0, 2)), Buffer.from(bytes.slice(2))]);
};
export const useMultiFileAuthState = async (dir) => ({
  state: { file: join(dir, "creds.json") },
  saveCreds: async () => writeFileSync(join(dir, "creds.json"), "{}"),
});

const ME = { id: "4911:3@s.whatsapp.net", lid: "777:3@lid", name: "Me" };
const PERSON = "4999@s.whatsapp.net";
const HIDDEN = { remoteJid: "555@lid", remoteJidAlt: "4922@s.whatsapp.net" };
const IN_GROUP = { remoteJid: "12@g.us", participant: "4933@s.whatsapp.net" };

const OFFERED = [
  [{ id: "own", remoteJid: PERSON, fromMe: true }, { conversation: "mine" }],
  [{ id: "story", remoteJid: "status@broadcast" }, { conversation: "look at me" }],
  [{ id: "direct", ...HIDDEN }, { conversation: "hi" }],
  [
    { id: "group", ...IN_GROUP },
    {
      extendedTextMessage: {
        text: "@777 what?",
        contextInfo: {
          mentionedJid: ["777@lid"],
          stanzaId: "old",
          participant: "4911@s.whatsapp.net",
          quotedMessage: { conversation: "said before" },
        },
      },
    },
  ],
  [{ id: "image", ...HIDDEN }, { imageMessage: { caption: "see", mimetype: "image/png", fileLength: 4, stub: "abcd" } }],
  [{ id: "video", ...HIDDEN }, { videoMessage: { mimetype: "video/mp4", fileLength: 99 * 1048576 } }],
];

let told = 0;

export default function makeWASocket({ auth }) {
  const ev = new EventEmitter();
  const upsert = (key, message, type = "notify") =>
    ev.emit("messages.upsert", {
      messages: [{ key, message, pushName: "Ann", messageTimestamp: Math.floor(Date.now() / 1000) }],
      type,
    });
  const tell = (what) => upsert({ id: `told-${told++}`, remoteJid: PERSON }, { conversation: JSON.stringify(what) });
  const close = (statusCode) =>
    ev.emit("connection.update", {
      connection: "close",
      lastDisconnect: { error: Object.assign(new Error("closed"), { output: { statusCode } }) },
    });
  const known = existsSync(auth.file);
  const open = () => {
    ev.emit("connection.update", { connection: "open" });
    if (!known) OFFERED.forEach(([key, message], n) => upsert(key, message, n % 2 ? "append" : "notify"));
  };
  setTimeout(() => {
    if (known) return open();
    ev.emit("connection.update", { qr: "2@code" });
    ev.emit("creds.update");
    return setTimeout(open, 50);
  }, 10);
  return {
    ev,
    user: ME,
    readMessages: async (keys) => {
      if (!keys[0].id.startsWith("told-")) tell({ read: keys[0].id });
    },
    sendPresenceUpdate: async (presence, jid) => tell({ presence, jid }),
    sendMessage: async (jid, content, { quoted } = {}) => {
      if (content.text === "refuse") throw Object.assign(new Error("not allowed"), { output: { statusCode: 403 } });
      if (content.text === "break") throw new Error("Timed Out");
      if (content.text === "restart") close(DisconnectReason.restartRequired);
      if (content.text === "logout") close(DisconnectReason.loggedOut);
      const bytes = content.image ?? content.document;
      tell({ jid, ...content, ...(bytes && { image: bytes.toString() }), quoted: quoted?.key.id });
      return { key: { id: "sent", remoteJid: jid, fromMe: true }, message: {} };
    },
  };
}
