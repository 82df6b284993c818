"""The rows of the table: a figure of ours, beside a peer's or alone, and whether it is good."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import measure
from measure import Contender

BENCH = Path(os.environ["BENCH"])


@dataclass
class Row:
    """One line of the table."""

    work: str
    ours: str
    peer: str
    theirs: str
    ratio: float | None
    target: str
    met: bool | None
    runs: int
    load: float
    fsync: float


def row(
    work: str, ours: str, runs: int, peer: str = "", theirs: str = "", ratio: float | None = None,
    target: str = "", met: bool | None = None,
) -> Row:
    """A line with what the machine is like now."""
    load, fsync = os.getloadavg()[0], measure.fsync_cost(BENCH / "fsync")
    return Row(work, ours, peer, theirs, ratio, target, met, runs, load, fsync)


def seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def megabytes(value: float) -> str:
    return f"{value / 1e6:.1f} MB"


def times(ratio: float) -> str:
    return f"≤ {ratio:.2f} ×"


def beside(
    work: str, us: Contender, them: Contender, target: float | None = None, what: str = "wall"
) -> Row:
    """Us beside a peer; the target is the highest ratio that is good."""
    text = megabytes if what == "peak" else seconds
    ratio = us.median(what) / them.median(what)
    return row(
        work, text(us.median(what)), len(us.wall), f"{them.name} {them.version}",
        text(them.median(what)), ratio, times(target) if target else "",
        ratio <= target if target else None,
    )


def alone(work: str, us: Contender, target: float | None, what: str = "wall") -> Row:
    """Us alone; the target is the highest figure that is good, in seconds or bytes."""
    text = megabytes if what == "peak" else seconds
    figure = us.median(what)
    return row(
        work, text(figure), len(us.wall), target=f"≤ {text(target)}" if target else "",
        met=figure <= target if target else None,
    )


def machine() -> str:
    flags = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", flags)
    instructions = "with SHA-NI" if re.search(r"\bsha_ni\b", flags) else "without SHA-NI"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    name = model[1] if model else os.uname().machine
    return f"{os.cpu_count()} processors ({name}, {instructions}), load average {load}"


def table(rows: list[Row]) -> str:
    head = ["work", "fairlead", "peer", "its figure", "ratio", "target", "", "runs", "load", "fsync"]
    lines = [head]
    for row in rows:
        met = {True: "met", False: "MISSED", None: ""}[row.met]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} ×"
        lines.append([row.work, row.ours, row.peer, row.theirs, ratio, row.target, met,
                      str(row.runs), f"{row.load:.1f}", f"{row.fsync * 1000:.2f} ms"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    lines.insert(1, rule)
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in lines
    )
