// The shop's worker: looks for placed orders at the API and ships each of them.

import { setTimeout as wait } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import pino from "pino";
import { request } from "undici";

/** Ships every placed order once; answers the ids of the orders it shipped. */
export async function shipPlaced(api, log) {
  const listed = await request(new URL("/orders?status=placed", api));
  if (listed.statusCode !== 200) {
    await listed.body.dump();
    throw new Error(`the API answered ${listed.statusCode} to the list of orders`);
  }
  const shipped = [];
  for (const order of await listed.body.json()) {
    const answer = await request(new URL(`/orders/${order.id}/ship`, api), { method: "POST" });
    await answer.body.dump();
    // 409: another worker was quicker. The order is shipped either way.
    if (answer.statusCode === 200) {
      shipped.push(order.id);
      log.info({ order: order.id, product: order.product }, "shipped");
    } else if (answer.statusCode !== 409) {
      log.warn({ order: order.id, status: answer.statusCode }, "not shipped");
    }
  }
  return shipped;
}

async function main() {
  const api = process.env.SHOP_API ?? "http://127.0.0.1:8080";
  const log = pino({ name: "worker" });
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stop.abort());
  while (!stop.signal.aborted) {
    await shipPlaced(api, log).catch((error) => log.error({ error: error.message }, "will look again"));
    await wait(1000, undefined, { signal: stop.signal }).catch(() => {});
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main();
