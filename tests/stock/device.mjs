// A device with a key of its own, at the door of a gateway.
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { expect, until } from "./checks.mjs";

/** How long an answer to a connect may take, s. */
export const ANSWER_S = 20;

/** A command line with a device of its own. */
export class Device {
  constructor(gateway) {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const raw = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
    const id = createHash("sha256").update(raw).digest("hex");
    Object.assign(this, { gateway, privateKey, id, publicKey: raw.toString("base64url") });
  }

  /** Connects, and says what came of it: `{hello}` or `{error}`, and later `closed`. */
  async connect(auth, scopes = ["operator.read"]) {
    const outcome = {};
    const socket = new WebSocket(this.gateway.url);
    socket.addEventListener("close", ({ code, reason }) => (outcome.closed = { code, reason }));
    socket.addEventListener("message", ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.event === "connect.challenge") {
        socket.send(JSON.stringify(this.request(auth, scopes, frame.payload)));
      } else if (frame.type === "res") {
        Object.assign(outcome, frame.ok ? { hello: frame.payload } : { error: frame.error });
      }
    });
    await until("an answer to connect", ANSWER_S, () => outcome.hello ?? outcome.error);
    return outcome;
  }

  request(auth, scopes, { nonce, ts }) {
    const client = { id: "cli", version: "2026.9.6", platform: "linux", mode: "cli" };
    const token = auth.token ?? auth.deviceToken;
    const claim = ["v3", this.id, client.id, client.mode, "operator", scopes.join(","), ts, token, nonce, client.platform, ""];
    const signature = sign(null, Buffer.from(claim.join("|")), this.privateKey).toString("base64url");
    const device = { id: this.id, publicKey: this.publicKey, signature, signedAt: ts, nonce };
    const params = { minProtocol: 4, maxProtocol: 4, client, caps: [], role: "operator", scopes, auth, device };
    return { type: "req", id: "c1", method: "connect", params };
  }

  /** Has it ask to be paired; the request's id. */
  async ask(scopes) {
    const { error } = await this.connect({ token: this.gateway.token }, scopes);
    expect(error?.details?.code === "PAIRING_REQUIRED", "it has to be paired", error);
    return error.details.requestId;
  }
}
