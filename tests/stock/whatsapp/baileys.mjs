// The real Baileys, sent to a WhatsApp of this machine: another address, and another root of its certificates.
const real = await import(process.env.BAILEYS_REAL);
real.WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(process.env.WHATSAPP_ROOT, "hex");

export const { BufferJSON, DisconnectReason, downloadMediaMessage, getContentType, normalizeMessageContent, useMultiFileAuthState } =
  real;
export default (config) => real.makeWASocket({ ...config, waWebSocketUrl: process.env.WHATSAPP_URL });
