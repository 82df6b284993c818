"""DBOS: `dbos_driver.py FOLDER URL`, where URL names a database of SQLite or Postgres."""

import sys
from importlib.metadata import version

from dbos import DBOS
from driver import asked, step, tell


@DBOS.step()
def one(what: str) -> int:
    return step(what)


@DBOS.workflow()
def chain(steps: int, what: str) -> int:
    return sum(one(what) for _ in range(steps))


def main() -> None:
    url = sys.argv[2]
    on = "Postgres" if url.startswith("postgresql") else "SQLite"
    DBOS(config={
        "name": "fairlead-bench", "system_database_url": url, "log_level": "ERROR",
        "console_log_level": "ERROR",
        "run_admin_server": False, "enable_otlp": False,
    })
    DBOS.launch()
    durable = {"SQLite": "synchronous=FULL, as SQLite is by itself", "Postgres": "synchronous_commit=on"}
    tell(name=f"DBOS on {on}", version=version("dbos"), durable=durable[on])
    for steps, what in asked():
        chain(steps, what)
        tell(steps=steps)
    DBOS.destroy()


main()
