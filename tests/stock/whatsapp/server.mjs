// A WhatsApp of this machine, as far as a device that wants to be linked comes: the Noise handshake, with a certificate
// of its own, and the references that codes are made of.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

export class WhatsAppServer {
  static async start(folder) {
    const require = createRequire(pathToFileURL(`${folder}/`));
    const baileys = await import(pathToFileURL(require.resolve("baileys")));
    const { WebSocketServer } = require("ws");
    const listener = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    await new Promise((done) => listener.once("listening", done));
    return new WhatsAppServer(baileys, listener);
  }

  constructor(baileys, listener) {
    Object.assign(this, { baileys, listener, linked: 0, problems: [] });
    this.root = baileys.Curve.generateKeyPair();
    listener.on("connection", (socket) => new Device(this, socket));
  }

  get url() {
    return `ws://127.0.0.1:${this.listener.address().port}/ws/chat`;
  }

  stop() {
    for (const socket of this.listener.clients) socket.terminate();
    this.listener.close();
  }
}

/** One device, from its first frame on. */
class Device {
  constructor(server, socket) {
    const { NOISE_MODE, NOISE_WA_HEADER } = server.baileys;
    const hash = Buffer.from(NOISE_MODE);
    Object.assign(this, { server, socket, hash, salt: hash, key: hash, counter: 0, unread: Buffer.alloc(0), step: "hello" });
    this.authenticate(NOISE_WA_HEADER);
    this.intro = NOISE_WA_HEADER.length;
    socket.on("message", (bytes) => {
      try {
        this.read(bytes);
      } catch (error) {
        server.problems.push(error.stack);
        socket.close();
      }
    });
  }

  read(bytes) {
    this.unread = Buffer.concat([this.unread, bytes.subarray(this.intro)]);
    this.intro = 0;
    while (this.unread.length >= 3) {
      const end = 3 + this.unread.readUIntBE(0, 3);
      if (this.unread.length < end) return;
      const frame = this.unread.subarray(3, end);
      this.unread = this.unread.subarray(end);
      if (this.step === "hello") this.hello(frame);
      else if (this.step === "finish") this.finish(frame);
    }
  }

  hello(frame) {
    const { Curve, proto } = this.server.baileys;
    const { ephemeral } = proto.HandshakeMessage.decode(frame).clientHello;
    const own = Curve.generateKeyPair();
    const known = Curve.generateKeyPair();
    this.own = own;
    this.authenticate(ephemeral);
    this.authenticate(own.public);
    this.mix(Curve.sharedKey(own.private, ephemeral));
    const shown = this.encrypt(known.public);
    this.mix(Curve.sharedKey(known.private, ephemeral));
    const payload = this.encrypt(this.certificate(known.public));
    const serverHello = { ephemeral: own.public, static: shown, payload };
    this.write(proto.HandshakeMessage.encode({ serverHello }).finish());
    this.step = "finish";
  }

  certificate(key) {
    const { Curve, WA_CERT_DETAILS, proto } = this.server.baileys;
    const between = Curve.generateKeyPair();
    const details = (fields) => proto.CertChain.NoiseCertificate.Details.encode(fields).finish();
    const signed = (by, fields) => {
      const encoded = details(fields);
      return { details: encoded, signature: Curve.sign(by.private, encoded) };
    };
    const intermediate = signed(this.server.root, { serial: 1, issuerSerial: WA_CERT_DETAILS.SERIAL, key: between.public });
    const leaf = signed(between, { serial: 2, issuerSerial: 1, key });
    return proto.CertChain.encode({ leaf, intermediate }).finish();
  }

  finish(frame) {
    const { Curve, encodeBinaryNode, proto } = this.server.baileys;
    const { static: shown, payload } = proto.HandshakeMessage.decode(frame).clientFinish;
    this.mix(Curve.sharedKey(this.own.private, this.decrypt(shown)));
    const device = proto.ClientPayload.decode(this.decrypt(payload));
    if (!device.devicePairingData) throw new Error("it does not ask to be linked");
    [, this.key] = this.derived(Buffer.alloc(0));
    Object.assign(this, { counter: 0, hash: Buffer.alloc(0), step: "linked" });
    this.server.linked += 1;
    const refs = ["one", "two", "three"].map((ref) => ({ tag: "ref", attrs: {}, content: Buffer.from(ref) }));
    const attrs = { from: "s.whatsapp.net", type: "set", id: "1", xmlns: "md" };
    this.write(this.seal(encodeBinaryNode({ tag: "iq", attrs, content: [{ tag: "pair-device", attrs: {}, content: refs }] })));
  }

  write(frame) {
    const length = Buffer.alloc(3);
    length.writeUIntBE(frame.length, 0, 3);
    this.socket.send(Buffer.concat([length, frame]));
  }

  authenticate(bytes) {
    this.hash = this.server.baileys.sha256(Buffer.concat([this.hash, bytes]));
  }

  derived(bytes) {
    const key = this.server.baileys.hkdf(Buffer.from(bytes), 64, { salt: this.salt, info: "" });
    return [key.subarray(0, 32), key.subarray(32)];
  }

  mix(bytes) {
    [this.salt, this.key] = this.derived(bytes);
    this.counter = 0;
  }

  iv() {
    const iv = Buffer.alloc(12);
    iv.writeUInt32BE(this.counter++, 8);
    return iv;
  }

  seal(bytes) {
    return this.server.baileys.aesEncryptGCM(bytes, this.key, this.iv(), this.hash);
  }

  encrypt(bytes) {
    const sealed = this.seal(bytes);
    this.authenticate(sealed);
    return sealed;
  }

  decrypt(bytes) {
    const opened = this.server.baileys.aesDecryptGCM(bytes, this.key, this.iv(), this.hash);
    this.authenticate(bytes);
    return opened;
  }
}
