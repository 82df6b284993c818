"""How the benchmarks measure: contenders take turns, so that a noisy moment hits all of them."""

import os
import statistics
import time
from dataclasses import dataclass, field
from typing import Callable


@dataclass
class Contender:
    """One program at one work."""

    name: str
    version: str
    # The command of run number N (from 0), which may prepare what that run needs.
    command: Callable[[int], list[str]]
    # The environment of its process, besides PATH and HOME.
    env: dict[str, str] = field(default_factory=dict)
    # Exact figures of each run: seconds on the wall and on processors, of the program and of each
    # program that it waited for.
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    # The peak of its own memory in bytes, as it was seen in one more run that is not timed: what it
    # allocated, without the pages of its file, which the system shares and takes back as it likes.
    peak: list[int] = field(default_factory=list)

    def median(self, what: str) -> float:
        return statistics.median(getattr(self, what))


# How often the memory of a program is looked at, in seconds.
LOOK = 0.002


def own_memory(process: int) -> int:
    """What a process has allocated now, in bytes; 0 when it has ended."""
    try:
        with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def once(contender: Contender, number: int, log: str, count: bool, look: bool = False) -> None:
    """Runs a contender once; its standard output goes nowhere, its errors to a log. Its time counts, or
    its memory is looked at, or neither."""
    command = contender.command(number)
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **contender.env}
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
    ]
    begun = time.perf_counter()
    child = os.posix_spawn(command[0], command, env, file_actions=actions)
    peak, ended = 0, 0
    while look and ended == 0:
        peak = max(peak, own_memory(child))
        time.sleep(LOOK)
        ended, status, usage = os.wait4(child, os.WNOHANG)
    if ended == 0:
        _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - begun
    if status != 0:
        with open(log, encoding="utf-8", errors="replace") as told:
            raise SystemExit(f"{' '.join(command)}\nended with {status}:\n{told.read()[-2000:]}")
    if count:
        contender.wall.append(wall)
        contender.cpu.append(usage.ru_utime + usage.ru_stime)
    if look:
        contender.peak.append(peak)


def take_turns(contenders: list[Contender], runs: int, log: str) -> None:
    """One run each that does not count, `runs` rounds in which each is admitted, and one in which the memory
    of each is looked at."""
    for number in range(runs + 1):
        # Nobody always goes first.
        first = number % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            once(contender, number, log, count=number > 0)
    for contender in contenders:
        once(contender, runs + 1, log, count=False, look=True)


def fsync_cost(path: os.PathLike) -> float:
    """The median of what it takes now to add 4 KiB to a file and sync it, in seconds."""
    took = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begun)
    os.unlink(path)
    return statistics.median(took)
