// Who this browser is: an Ed25519 key that never leaves it, and the token the gateway gave for it.

const encode = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Why this page cannot prove who it is, or null if it can. */
export function obstacle() {
  if (crypto?.subtle) return null;
  return `Browsers keep keys only for pages from this machine or over TLS. Open this page as http://127.0.0.1:${location.port || 80} ` +
    `through a tunnel (ssh -N -L ${location.port || 80}:127.0.0.1:${location.port || 80} ${location.hostname}), or put TLS or Tailscale Serve in front of the gateway.`;
}

function database() {
  return new Promise((done, failed) => {
    const opening = indexedDB.open("crabtree", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("kept");
    opening.onsuccess = () => done(opening.result);
    opening.onerror = () => failed(opening.error);
  });
}

async function kept(mode, ask) {
  const db = await database();
  try {
    const transaction = db.transaction("kept", mode);
    const asked = ask(transaction.objectStore("kept"));
    await new Promise((done, failed) => {
      transaction.oncomplete = done;
      transaction.onerror = transaction.onabort = () => failed(transaction.error);
    });
    return asked.result;
  } finally {
    db.close();
  }
}

/** The key, made the first time. Its private half cannot be read by any script. */
export async function identity() {
  const had = await kept("readonly", (store) => store.get("device"));
  if (had) return had;
  const pair = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
  const raw = await crypto.subtle.exportKey("raw", pair.publicKey);
  const device = { id: hex(await crypto.subtle.digest("SHA-256", raw)), publicKey: encode(raw), privateKey: pair.privateKey };
  await kept("readwrite", (store) => store.put(device, "device"));
  return device;
}

export const deviceToken = () => kept("readonly", (store) => store.get("token"));
export const keepToken = (token) => kept("readwrite", (store) => (token ? store.put(token, "token") : store.delete("token")));

/** The proof of a connect: the challenge and what is asked for, signed (payload v3). */
export async function proof(device, { client, role, scopes, token, challenge }) {
  const payload = ["v3", device.id, client.id, client.mode, role, scopes.join(","), challenge.ts, token ?? "", challenge.nonce, client.platform, ""].join("|");
  const signature = await crypto.subtle.sign("Ed25519", device.privateKey, new TextEncoder().encode(payload));
  return { id: device.id, publicKey: device.publicKey, signature: encode(signature), signedAt: challenge.ts, nonce: challenge.nonce };
}
