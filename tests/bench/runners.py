"""Runners: whether twice as many make steps that wait twice as fast, how fast a log comes through one, and
what one needs of memory.
"""

import shutil
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Iterator

import edge
import measure
from rows import BENCH, Row, megabytes, row

# How many steps wait, for how long, and how many of them a runner makes at a time. So few that a step takes
# no processor from another: what is measured is how soon a runner that is free has the next one.
STEPS, SECONDS, SLOTS = 64, 0.5, 4
# A line of the log, and how many there are.
LINE, LINES = "x" * 91, 1_000_000
POOL = "bench"


@contextmanager
def serving(steps: dict[str, str], nats: str, *arguments: str) -> Iterator[edge.Server]:
    """A server whose one pipeline has these steps, each a script of the shell."""
    folder = BENCH / "runners"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ["pipelines", "secrets"]:
        (folder / name).mkdir(parents=True)
    (folder / "server.yaml").write_text(
        "projects: {default: {allow: {kinds: [command], host_programs: [sh]}}}\n"
    )
    made = "".join(
        f"  {step}: {{uses: command, with: {{program: sh, args: [-c, '{script}']}}}}\n"
        for step, script in steps.items()
    )
    (folder / "pipelines/work.yaml").write_text(
        f"apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: work\non: {{manual: {{}}}}\nsteps:\n{made}"
    )
    with edge.started(folder, "--nats", nats, "--default-pool", POOL, *arguments) as server:
        yield server


@contextmanager
def runner(number: int, nats: str) -> Iterator[subprocess.Popen]:
    folder = BENCH / f"runner-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [
        edge.FAIRLEAD, "--state", folder / "state", "runner", "--nats", nats, "--pool", POOL,
        "--name", f"runner-{number}", "--slots", str(SLOTS), "--min-disk", "1", "--min-memory", "1",
    ]
    with open(folder / "log", "w", encoding="utf-8") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def took(view: dict) -> float:
    """The seconds from the first step's begin to the end of a run."""
    first = min(edge.moment(step["started_at"]) for step in view["steps"])
    return edge.moment(view["ended_at"]) - first


def waiting() -> list[Row]:
    """Steps that wait, on 1, 2 and 4 runners."""
    rows, alone = [], 0.0
    steps = {f"s{number}": f"sleep {SECONDS}" for number in range(STEPS)}
    for count in [1, 2, 4]:
        figures = []
        with edge.nats() as nats, serving(steps, nats) as server, ExitStack() as runners:
            for number in range(count):
                runners.enter_context(runner(number, nats))
            # The first one waits until all of them are there.
            for _ in range(4):
                figures.append(took(server.ended(server.start("work"), 120)))
        figure = sorted(figures[1:])[1]
        alone = alone or figure
        share = alone / figure / count
        rows.append(row(
            f"{STEPS} steps that wait {SECONDS} s, {count} runner{'s' * (count > 1)}",
            f"{figure:.2f} s, {share:.2f} each", len(figures) - 1,
            target="≥ 0.90 each" if count > 1 else "", met=share >= 0.9 if count > 1 else None,
        ))
    return rows


def logged() -> list[Row]:
    """One long log through a runner, and the most memory that the runner had of its own."""
    script = f"yes {LINE} | head -n {LINES}"
    rates, peaks = [], []
    with edge.nats() as nats, serving({"talk": script}, nats, "--max-log", "1024") as server:
        for _ in range(3):
            with runner(0, nats) as child:
                peak, done = [0], threading.Event()

                def look() -> None:
                    while not done.wait(measure.LOOK):
                        peak[0] = max(peak[0], measure.own_memory(child.pid))

                looking = threading.Thread(target=look)
                looking.start()
                run = server.start("work")
                seconds = took(server.ended(run, 300))
                done.set()
                looking.join()
            stored = count_lines(server.state / "logs" / run / "talk.1.log")
            # One line says which runner makes it.
            if stored != LINES + 1:
                raise SystemExit(f"{stored} of {LINES + 1} lines of the log are stored")
            rates.append(LINES * (len(LINE) + 1) / seconds)
            peaks.append(peak[0])
    rate, peak = sorted(rates)[1], sorted(peaks)[1]
    return [
        row("a log through a runner", f"{rate / 1e6:.0f} MB/s", len(rates),
            target="≥ 50 MB/s", met=rate >= 50e6),
        row("  the runner's own memory", megabytes(peak), len(peaks),
            target="≤ 30.0 MB", met=peak <= 30e6),
    ]


def count_lines(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def idle() -> list[Row]:
    """What a runner without work does in half a minute: the times that its threads were woken."""
    with edge.nats() as nats, serving({"a": "true"}, nats), runner(0, nats) as child:
        # What it says more often for a while after it began is over then.
        time.sleep(15)
        before = switches(child.pid)
        time.sleep(60)
        woken = switches(child.pid) - before
        memory = measure.own_memory(child.pid)
    return [
        row("times that an idle runner wakes in a minute", str(woken), 1),
        row("  its own memory", megabytes(memory), 1, target="≤ 30.0 MB", met=memory <= 30e6),
    ]


def switches(process: int) -> int:
    """How often the threads of a process waited, and were woken."""
    total = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        for line in (thread / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total
