"""Restate: `restate_driver.py FOLDER SERVER`. One node, its log on the disk; the service is beside it.

The server is as it comes: each record of its log is synced before it counts
(`log-server.rocksdb-disable-wal-fsync = false`).
"""

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import hypercorn.asyncio
import hypercorn.config
import restate
from driver import asked, free_port, server, step, tell, until

service = restate.Service("bench")


@service.handler()
async def chain(ctx: restate.Context, wanted: dict) -> int:
    total = 0
    for number in range(wanted["steps"]):
        total += await ctx.run_typed(f"s{number}", step, what=wanted["what"])
    return total


def post(url: str, body: object) -> object:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def serve(port: int) -> None:
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 1000
    config.keep_alive_max_requests = 1_000_000_000

    async def forever() -> None:
        await hypercorn.asyncio.serve(
            restate.app([service]), config, shutdown_trigger=asyncio.Event().wait
        )

    threading.Thread(target=lambda: asyncio.run(forever()), daemon=True).start()


def main() -> None:
    folder, program = Path(sys.argv[1]), sys.argv[2]
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    ingress, admin, node, worker = (free_port() for _ in range(4))
    config = folder / "restate.toml"
    # One partition, as there is one chain; 24 of them, the default, cost memory and time here.
    config.write_text(
        f"""
disable-telemetry = true
log-filter = "warn"
default-num-partitions = 1
listen-mode = "tcp"
bind-ip = "127.0.0.1"
bind-port = {node}
base-dir = "{folder}/data"
[ingress]
bind-address = "127.0.0.1:{ingress}"
[admin]
bind-address = "127.0.0.1:{admin}"
disable-web-ui = true
[log-server]
rocksdb-disable-wal-fsync = false
"""
    )
    serve(worker)
    with server([program, "--no-logo", "-c", str(config)], str(folder / "log")):
        deployment = {"uri": f"http://127.0.0.1:{worker}", "use_http_11": False}
        until(lambda: post(f"http://127.0.0.1:{admin}/deployments", deployment))
        until(lambda: post(f"http://127.0.0.1:{ingress}/bench/chain", {"steps": 1, "what": "nothing"}))
        tell(name="Restate", version=told.stdout.split()[-1], durable="its log is synced, one node")
        for steps, what in asked():
            post(f"http://127.0.0.1:{ingress}/bench/chain", {"steps": steps, "what": what})
            tell(steps=steps)


main()
