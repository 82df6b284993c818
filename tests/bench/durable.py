"""Chains of steps on engines that write each of them down, beside Fairlead, and what that costs alone.

A peer is a driver of `peers/`: it starts its server once, outside of what is measured, and then makes
one chain for each line that it reads. Fairlead has no such start: where its steps are processes, the
figure is that of the whole program, from an empty state folder; where they do nothing, that of the
example `durability`, which measures itself.
"""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

BENCH = Path(os.environ["BENCH"])
DURABILITY = os.environ["DURABILITY"]
PEERS = Path(os.environ["PEERS"])
DRIVERS = Path(__file__).parent / "peers"
SETUP = Path(__file__).parent.parent / "setup"
# Those that keep a run through a loss of power.
STORES = ["SQLite", "Postgres"]


class Schemas:
    """Empty schemas in the Postgres of this bench."""

    def __init__(self) -> None:
        self.made = 0

    def new(self) -> str:
        self.made += 1
        url = os.environ["POSTGRES"]
        told = subprocess.run(
            [SETUP / "postgres.sh", "schema", url, f"bench_{self.made}"],
            check=True, stdout=subprocess.PIPE, text=True,
        )
        return told.stdout.strip()


SCHEMAS = Schemas()


def store(name: str) -> str:
    """Where the example keeps its runs: a new place each time."""
    if name == "Postgres":
        return SCHEMAS.new()
    folder = BENCH / "durability"
    shutil.rmtree(folder, ignore_errors=True)
    return "memory" if name == "memory" else str(folder)


def durability(work: str, name: str) -> dict:
    """What the example says of one work on one store."""
    told = subprocess.run(
        [DURABILITY, work, store(name)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(told.stdout)


@dataclass
class Peer:
    """A driver that lives as long as the block."""

    driver: str
    place: str
    name: str = ""
    version: str = ""
    durable: str = ""
    wall: dict[str, list[float]] = field(default_factory=dict)

    def __enter__(self) -> "Peer":
        folder = BENCH / "peers" / f"{self.driver}-{abs(hash(self.place)):x}"
        folder.mkdir(parents=True)
        place = self.place.format(folder=folder)
        self.log = open(folder / "driver.log", "w", encoding="utf-8")
        self.child = subprocess.Popen(
            [PEERS / "venv/bin/python", DRIVERS / f"{self.driver}_driver.py", folder, place],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )
        fact = self.answer()
        self.name, self.version, self.durable = fact["name"], fact["version"], fact["durable"]
        return self

    def __exit__(self, *_) -> None:
        self.child.stdin.close()
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.log.close()

    def answer(self) -> dict:
        line = self.child.stdout.readline()
        if not line:
            told = Path(self.log.name).read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"{self.driver} ended:\n{told[-2000:]}")
        return json.loads(line)

    def chain(self, steps: int, what: str, count: bool) -> None:
        """One chain; `what` is what each of its steps does."""
        begun = time.perf_counter()
        self.child.stdin.write(json.dumps({"steps": steps, "what": what}) + "\n")
        self.child.stdin.flush()
        self.answer()
        if count:
            self.wall.setdefault(what, []).append(time.perf_counter() - begun)

    def median(self, what: str) -> float:
        return median(self.wall[what])


def peers() -> list[Peer]:
    """All that are on this machine."""
    found = [
        Peer("dbos", "sqlite:///{folder}/dbos.db"),
        Peer("dbos", os.environ["POSTGRES"].replace("postgres://", "postgresql://", 1)),
        Peer("temporal", str(PEERS / "temporal")),
    ]
    restate = PEERS / "restate-server"
    return found + ([Peer("restate", str(restate))] if restate.exists() else [])
