"""What the drivers of the durable peers share: one line in, one chain made, one line out.

A driver starts its server and its worker, says that it is ready with a line of JSON (`name`,
`version`, `durable`: what makes it so), and then makes one chain for each line that it reads:
`{"steps": 400, "what": "true"}`. It answers `{"steps": 400}` when the chain's result is there. It
ends, and what it started with it, when its input ends.

A step is what one of Fairlead's is: `true` runs the program of that name and waits for it, `nothing`
answers at once, within the worker.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import Callable, Iterator


def step(what: str) -> int:
    """One step; its answer is what the peer writes down."""
    if what == "nothing":
        return 0
    child = os.posix_spawn("/bin/true", ["true"], {})
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError(f"true ended with {status}")
    return status


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def server(command: list[str], log: str, env: dict[str, str] | None = None) -> Iterator[None]:
    """A server that ends with the block."""
    with open(log, "w", encoding="utf-8") as told:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=told, stderr=told,
            env={**os.environ, **(env or {})},
        )
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def until(ready: Callable[[], object], seconds: float = 60) -> object:
    """What `ready` answers as soon as it does not fail."""
    end = time.monotonic() + seconds
    while True:
        try:
            return ready()
        except Exception:  # Whatever keeps a server from answering while it starts.
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


# Libraries print to standard output what they think of; the answers have a way of their own.
_ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def tell(**fact: object) -> None:
    _ANSWERS.write(json.dumps(fact) + "\n")
    _ANSWERS.flush()


def asked() -> Iterator[tuple[int, str]]:
    for line in sys.stdin:
        wanted = json.loads(line)
        yield wanted["steps"], wanted["what"]
