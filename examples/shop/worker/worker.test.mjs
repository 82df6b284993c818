// The worker's tests; the image's build runs them.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { test } from "node:test";
import pino from "pino";
import { shipPlaced } from "./worker.mjs";

const silent = pino({ level: "silent" });

async function withApi(answer, use) {
  const seen = [];
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    const [status, body] = answer(request);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await use(`http://127.0.0.1:${server.address().port}`, seen);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("ships what is placed, and leaves what another worker shipped", async () => {
  const placed = [{ id: 7, product: "rope" }, { id: 8, product: "cleat" }];
  const api = (request) =>
    request.method === "GET" ? [200, placed] : [request.url === "/orders/7/ship" ? 200 : 409, {}];
  await withApi(api, async (url, seen) => {
    assert.deepEqual(await shipPlaced(url, silent), [7]);
    assert.deepEqual(seen, [
      "GET /orders?status=placed",
      "POST /orders/7/ship",
      "POST /orders/8/ship",
    ]);
  });
});

test("says so when the API is in trouble", async () => {
  await withApi(() => [500, {}], (url) =>
    assert.rejects(shipPlaced(url, silent), /answered 500/));
});
