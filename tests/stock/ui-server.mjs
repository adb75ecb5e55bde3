// Serves the stock Control UI's files as they are, and hands its WebSocket to a gateway: what a reverse proxy does.
import { readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
  ".woff2": "font/woff2",
};

export class UiServer {
  /** Serves the files of `dir` for a gateway on `gatewayPort`, on loopback. */
  static async start(dir, gatewayPort) {
    const server = new UiServer(dir, gatewayPort);
    await new Promise((done) => server.http.listen(0, "127.0.0.1", done));
    server.origin = `http://127.0.0.1:${server.http.address().port}`;
    return server;
  }

  constructor(dir, gatewayPort) {
    Object.assign(this, { dir, gatewayPort, sockets: new Set() });
    // A page may lie at any depth, the files it names do not.
    this.index = readFileSync(join(dir, "index.html"), "utf8").replaceAll(/(href|src)="\.\//g, '$1="/');
    this.http = createServer((request, response) => this.answer(request, response));
    this.http.on("upgrade", (request, socket, head) => this.pass(request, socket, head));
  }

  answer(request, response) {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    const send = (status, type, body) => response.writeHead(status, { "content-type": type }).end(body);
    if (path === "/control-ui-config.json") {
      return send(200, "application/json", JSON.stringify({ basePath: "", assistantName: "Assistant", assistantAvatar: "A" }));
    }
    const file = join(this.dir, path);
    if (statSync(file, { throwIfNoEntry: false })?.isFile()) {
      return send(200, TYPES[extname(file)] ?? "application/octet-stream", readFileSync(file));
    }
    return extname(path) === "" ? send(200, "text/html", this.index) : send(404, "text/plain", "Not Found");
  }

  /** The upgrade goes on with the gateway's own address as `Host`, all that follows byte for byte. */
  pass(request, socket, head) {
    const gateway = connect(this.gatewayPort, "127.0.0.1", () => {
      const headers = [];
      for (let i = 0; i < request.rawHeaders.length; i += 2) {
        const [name, value] = request.rawHeaders.slice(i, i + 2);
        headers.push(`${name}: ${/^host$/i.test(name) ? `127.0.0.1:${this.gatewayPort}` : value}\r\n`);
      }
      gateway.write(`GET ${request.url} HTTP/1.1\r\n${headers.join("")}\r\n`);
      gateway.write(head);
      socket.pipe(gateway).pipe(socket);
    });
    for (const [one, other] of [[socket, gateway], [gateway, socket]]) {
      this.sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.sockets.delete(one);
        other.destroy();
      });
    }
  }

  async stop() {
    for (const socket of this.sockets) socket.destroy();
    this.http.closeAllConnections();
    await new Promise((done) => this.http.close(done));
  }
}
