// Serves the example page, from another origin than the services, as applications are:
//
//     node tools/serve.js [host:port]
//
// AUTH_HTTP and USER_HTTP say where the services are; they must allow this page's origin by
// CORS_ALLOWED_ORIGINS.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { argv, env } from "node:process";
import { fileURLToPath } from "node:url";

const [address = "localhost:8080"] = argv.slice(2);
const { hostname, port } = new URL(`http://${address}`);
const auth = new URL(env.AUTH_HTTP || "http://localhost:3000").origin;
const user = new URL(env.USER_HTTP || "http://localhost:4000").origin;
const root = new URL("..", import.meta.url);

const TYPES = { html: "text/html; charset=utf-8", css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8" };
// The page may run its own scripts and talk to the two services, and nothing else.
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; " +
  `form-action 'none'; frame-ancestors 'none'; connect-src ${auth} ${user}`;

createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://page");
  const name = pathname === "/" ? "/example/index.html" : pathname;
  const type = TYPES[name.split(".").at(-1)];
  try {
    // `new URL` has resolved what dots there were.
    if (!type || !/^\/(build|example)\//.test(name)) throw new Error("no such file");
    let content = await readFile(fileURLToPath(new URL(`.${name}`, root)), "utf8");
    if (name.endsWith(".html")) {
      content = content.replace("http://localhost:3000", auth).replace("http://localhost:4000", user);
    }
    response.writeHead(200, {
      "content-type": type,
      "content-security-policy": POLICY,
      "x-content-type-options": "nosniff",
      "cache-control": "no-cache",
    });
    response.end(content);
  } catch {
    response.writeHead(404, { "content-type": "text/plain" }).end("not found\n");
  }
}).listen(Number(port || 80), hostname, () => console.log(`http://${address}`));
