"""The edge: how many webhooks a server stores in a second, and how long an event takes to its first step.

The sender is a registry of the CNCF distribution's kind. Its notifications are real in form; the
registry itself is a stand-in within this program that has an image of its own under each tag,
so that it is the server that is measured. `wrk` sends as fast as it is answered; what is timed by the
clock is sent at a steady rate, whether or not the answers come.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Iterator

import durable
from rows import BENCH, Row, row

FAIRLEAD = os.environ["BINARY"]
WRK = os.environ["WRK"]
SETUP = Path(__file__).parent.parent / "setup"
TOKEN = "harbour-pilot"
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
PIPELINE = """\
apiVersion: fairlead.dev/v1
kind: Pipeline
name: first
on:
  registry.push: {repository: bench/wanted}
steps:
  first: {uses: command, with: {program: "true"}}
"""


def manifest(tag: str) -> bytes:
    """The image that has a tag: each another one."""
    return json.dumps({
        "schemaVersion": 2, "mediaType": MEDIA_TYPE, "layers": [], "annotations": {"tag": tag},
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                   "digest": "sha256:" + hashlib.sha256(b"{}").hexdigest()},
    }).encode()


def digest(tag: str) -> str:
    return "sha256:" + hashlib.sha256(manifest(tag)).hexdigest()


# --- the server ---------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    """A `fairlead serve` that takes what a registry reports."""

    address: tuple[str, int]
    state: Path

    @property
    def url(self) -> str:
        return "http://%s:%d" % self.address

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def start(self, pipeline: str) -> str:
        """Asks for a run, and answers its id."""
        request = urllib.request.Request(
            f"{self.url}/api/v1/pipelines/{pipeline}/runs", data=b"{}", method="POST",
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["run"]

    def ended(self, run: str, limit: float) -> dict:
        """A run when it has passed."""
        until = time.monotonic() + limit
        while (view := self.get(f"/api/v1/runs/{run}"))["ended_at"] is None:
            if time.monotonic() > until:
                raise SystemExit(f"the run did not end within {limit} s: {view['status']}")
            time.sleep(0.05)
        if view["status"] != "passed":
            raise SystemExit(f"the run {view['status']}: {json.dumps(view['steps'])[:2000]}")
        return view

    def stored(self) -> int:
        """How many events are in a store on SQLite."""
        with sqlite3.connect(self.state / "fairlead.db", timeout=30) as db:
            return db.execute("SELECT count(*) FROM event").fetchone()[0]


@contextmanager
def serving(registry: int, *arguments: str) -> Iterator[Server]:
    """A server with an empty store, as long as the block."""
    folder = BENCH / "edge"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pipelines").mkdir(parents=True)
    (folder / "secrets").mkdir()
    (folder / "secrets/registry-token").write_text(TOKEN)
    (folder / "pipelines/first.yaml").write_text(PIPELINE)
    (folder / "server.yaml").write_text(
        f"sources:\n  registry: {{kind: distribution, registry: '127.0.0.1:{registry}', "
        "secret: registry-token}\n"
        "projects:\n  default: {allow: {kinds: [command], host_programs: ['true']}}\n"
    )
    with started(folder, *arguments) as server:
        yield server


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[Server]:
    """A server with what is in a folder: pipelines, secrets, its configuration."""
    server = Server(("127.0.0.1", free_port()), folder / "state")
    command = [
        FAIRLEAD, "--state", server.state, "--secrets-dir", folder / "secrets", "serve",
        "--pipelines", folder / "pipelines", "--config", folder / "server.yaml",
        "--listen", "%s:%d" % server.address, *arguments,
    ]
    with open(folder / "log", "w", encoding="utf-8") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                server.get("/readyz")
                break
            except OSError:
                if child.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the server does not start:\n{(folder / 'log').read_text()}")
                time.sleep(0.05)
        yield server
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def nats() -> Iterator[str]:
    folder, script = BENCH / "nats", str(SETUP / "nats.sh")
    told = subprocess.run([script, "up", folder, str(free_port())], check=True,
                          stdout=subprocess.PIPE, text=True)
    try:
        yield told.stdout.strip()
    finally:
        subprocess.run([script, "down", folder], check=True)


# --- webhooks a second --------------------------------------------------------------------------


LUA = """\
local thread = 0
function setup(t) t:set("id", thread); thread = thread + 1 end
local sent = 0
local headers = {["Authorization"] = "Bearer %(token)s", ["Content-Type"] =
  "application/vnd.docker.distribution.events.v2+json"}
function request()
  local events = {}
  for n = 1, %(batch)d do
    sent = sent + 1
    local digest = string.format("%%02x%%062x", id, sent)
    events[n] = string.format('{"id":"%%s","timestamp":"2026-11-29T03:00:00Z","action":"push","target":{' ..
      '"mediaType":"%(media)s","digest":"sha256:%%s","size":1,"length":1,"repository":"bench/other",' ..
      '"tag":"t%%s"},"request":{"method":"PUT"},"actor":{}}', digest, digest, digest)
  end
  return wrk.format("POST", "/webhooks/registry", headers,
    '{"events":[' .. table.concat(events, ",") .. "]}")
end
"""


def webhooks() -> list[Row]:
    """Reports that no pipeline waits for: taken, proven, stored durably, answered, and handled."""
    rows = []
    for batch, target in [(1, 5000), (10, None)]:
        script = BENCH / "webhooks.lua"
        script.write_text(LUA % {"token": TOKEN, "batch": batch, "media": MEDIA_TYPE})
        rates = []
        for _ in range(3):
            with serving(free_port()) as server:
                told = subprocess.run(
                    [WRK, "-t", "1", "-c", "64", "-d", "8s", "-s", script, server.url],
                    check=True, stdout=subprocess.PIPE, text=True,
                ).stdout
                if "Non-2xx" in told or "Socket errors" in told:
                    raise SystemExit(f"webhooks were refused:\n{told}")
                requests, took = re.search(r"(\d+) requests in ([\d.]+)s", told).groups()
                events = int(requests) * batch
                # What was answered is there; what was being answered at the end may be, too.
                if server.stored() < events:
                    raise SystemExit(f"{events} events were answered, {server.stored()} are stored")
                rates.append(events / float(took))
        rate = sorted(rates)[len(rates) // 2]
        rows.append(row(
            f"webhooks stored, {batch} event{'s' * (batch > 1)} each", f"{rate:,.0f} /s", len(rates),
            target=f"≥ {target:,} /s" if target else "", met=rate >= target if target else None,
        ))
    return rows


# --- from the event to the first step -----------------------------------------------------------


@dataclass
class Load:
    """Reports at a steady rate, and when each was sent."""

    server: Server
    sent: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    async def sender(self, tags: asyncio.Queue) -> None:
        reader, writer = await asyncio.open_connection(*self.server.address)
        while (tag := await tags.get()) is not None:
            event = {
                "id": tag, "action": "push", "timestamp": "2026-11-29T03:00:00Z",
                "target": {"mediaType": MEDIA_TYPE, "digest": digest(tag), "size": 1, "length": 1,
                           "repository": "bench/wanted", "tag": tag},
                "request": {"method": "PUT"}, "actor": {},
            }
            body = json.dumps({"events": [event]}).encode()
            head = (
                "POST /webhooks/registry HTTP/1.1\r\nHost: bench\r\n"
                f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n"
                "Content-Type: application/vnd.docker.distribution.events.v2+json\r\n\r\n"
            )
            self.sent[tag] = time.time()
            writer.write(head.encode() + body)
            status = await reader.readline()
            length = 0
            while (line := await reader.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            answer = await reader.readexactly(length)
            if b" 202 " not in status:
                self.refused.append((status + answer).decode())
        writer.close()

    async def send(self, count: int, rate: float) -> None:
        tags: asyncio.Queue = asyncio.Queue()
        senders = [asyncio.create_task(self.sender(tags)) for _ in range(16)]
        begun = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            tags.put_nowait(f"n{number}")
        for _ in senders:
            tags.put_nowait(None)
        await asyncio.gather(*senders)
        if self.refused:
            raise SystemExit(f"{len(self.refused)} reports were refused: {self.refused[0]}")


async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers what each tag is. A stand-in: it stores nothing."""
    try:
        while line := await reader.readline():
            method, path, _ = line.decode().split()
            while await reader.readline() not in (b"\r\n", b""):
                pass
            tag = path.rsplit("/", 1)[-1]
            body = manifest(tag)
            writer.write(
                (f"HTTP/1.1 200 OK\r\nContent-Type: {MEDIA_TYPE}\r\n"
                 f"Content-Length: {len(body)}\r\n"
                 f"Docker-Content-Digest: {digest(tag)}\r\n\r\n").encode()
            )
            if method != "HEAD":
                writer.write(body)
            await writer.drain()
    except (ConnectionError, ValueError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


def first_starts(server: Server, count: int) -> dict[str, float]:
    """When the first step of each run began, by the tag that started it."""
    begun: dict[str, float] = {}
    runs: list[str] = []
    until = time.monotonic() + 60
    while len(runs) < count:
        runs, before = [], ""
        while page := server.get(f"/api/v1/runs?limit=1000{before}")["runs"]:
            runs += [run["run"] for run in page if run["status"] == "passed"]
            before = f"&before={page[-1]['run']}"
        if len(runs) < count and time.monotonic() > until:
            raise SystemExit(f"{len(runs)} of {count} runs have passed")
        time.sleep(0.2)
    for run in runs:
        view = server.get(f"/api/v1/runs/{run}")
        begun[view["event"]["tag"]] = moment(view["steps"][0]["started_at"])
    return begun


def moment(text: str) -> float:
    """A time of the API in seconds."""
    text = re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")
    return datetime.fromisoformat(text).timestamp()


async def latencies(rate: float, *arguments: str) -> list[float]:
    """What each event of a few seconds took, in seconds, sorted."""
    port = free_port()
    stand_in = await asyncio.start_server(registry, "127.0.0.1", port)
    try:
        with serving(port, *arguments) as server:
            # The first few fill the caches of everybody.
            count = round(rate * 8)
            load = Load(server)
            await load.send(count, rate)
            begun = await asyncio.to_thread(first_starts, server, count)
            warm = [tag for tag in load.sent if int(tag[1:]) >= rate]
            return sorted(begun[tag] - load.sent[tag] for tag in warm)
    finally:
        stand_in.close()


def starts() -> list[Row]:
    """From the moment a report is sent to the moment the first step of its run begins."""
    rows = []

    def measure(name: str, rate: float, target: float | None, *arguments: str) -> None:
        took = asyncio.run(latencies(rate, *arguments))
        for share, wanted in [(0.5, None), (0.99, target)]:
            figure = took[min(len(took) - 1, int(len(took) * share))]
            rows.append(row(
                f"event to first step, {rate} a second, {name}, p{share * 100:.0f}",
                f"{figure * 1000:.1f} ms", len(took),
                target=f"< {wanted * 1000:.0f} ms" if wanted else "",
                met=figure < wanted if wanted else None,
            ))

    measure("SQLite", 100, 0.008)
    measure("SQLite", 300, 0.008)
    with nats() as url:
        measure("Postgres and NATS", 100, 0.015, "--store", durable.SCHEMAS.new(), "--nats", url)
        measure("Postgres and NATS", 300, 0.015, "--store", durable.SCHEMAS.new(), "--nats", url)
    return rows
