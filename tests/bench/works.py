"""What is measured: each work is one function that answers rows of the table.

Started by run.sh, which names the programs and the registry in the environment. Figures are medians
of runs in turn; a ratio is ours by the peer's, so that less than 1 is faster or smaller.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from statistics import median
from typing import Iterator

import durable
import edge
import images
import measure
import runners
from measure import Contender
from rows import BENCH, Row, alone, beside, machine, row, seconds, table

FAIRLEAD = os.environ["BINARY"]
REGISTRY = images.Registry(os.environ["REGISTRY"])
SCALE = float(os.environ.get("BENCH_SCALE", "1"))
STEPS = 400
PASSWORD = "harbour-pilot"


# --- contenders ---------------------------------------------------------------------------------


def version(*command: str) -> str:
    """The first version number that a program tells of itself."""
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"v?(\d+\.\d+[.\d]*)", told.stdout + told.stderr)
    return found[1] if found else "?"


def peer(name: str) -> str:
    return os.path.join(os.environ["ORACLES"], name)


def packaged_version(name: str) -> str:
    """The version of an unpacked Debian package whose program does not know its own."""
    program = Path(peer(name)).resolve()
    notes = program.parents[1] / "share/doc" / program.name / "changelog.Debian.gz"
    with gzip.open(notes, "rt", encoding="utf-8") as lines:
        found = re.match(r"\S+ \((\d+\.\d+[.\d]*)", next(lines))
    return found[1] if found else "?"


def ours(name: str, args, home: Path = BENCH, **env: str) -> Contender:
    """Fairlead with a state folder of each run's own; `args` may be a function of the run."""

    def command(number: int) -> list[str]:
        state = home / "state" / name.replace(" ", "-")
        shutil.rmtree(state, ignore_errors=True)
        given = args(number) if callable(args) else args
        return [FAIRLEAD, "--state", str(state), *given]

    return Contender(name, version(FAIRLEAD, "--version"), command, env)


def runs(count: int) -> int:
    return max(1, round(count * SCALE))


# --- processes ----------------------------------------------------------------------------------


def graph(name: str, count: int, chained: bool) -> tuple[Path, str]:
    """A pipeline and a ninja file with the same steps, each of which runs `true`."""
    steps, edges = [], ["rule true", "  command = true"]
    for number in range(count):
        before = f"s{number - 1}" if chained and number else ""
        wait = before and f", needs: [{before}]"
        steps.append(f'  s{number}: {{uses: command, with: {{program: "true"}}{wait}}}')
        edges.append(f"build s{number}: true {before}")
    head = f"apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: {name}\nsteps:\n"
    pipeline = BENCH / f"{name}.yaml"
    pipeline.write_text(head + "\n".join(steps) + "\n")
    return pipeline, "\n".join(edges) + "\n"


def processes(
    name: str, count: int, chained: bool, turns: int
) -> tuple[Contender, Contender, Contender]:
    """Fairlead, the same with its state in memory, and ninja at one graph, two processes at a time.
    In memory nothing is durable: it tells what the engine costs from what the disk does."""
    pipeline, edges = graph(name, count, chained)
    program = os.environ["NINJA"]

    def ninja(_: int) -> list[str]:
        folder = BENCH / "ninja" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "build.ninja").write_text(edges)
        return [program, "-C", str(folder), "-j2"]

    run = ["run", str(pipeline), "--quiet", "--max-parallel", "2"]
    us = ours("fairlead", run)
    them = Contender("ninja -j2", version(program, "--version"), ninja)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="fairlead-bench-") as memory:
        in_memory = ours("fairlead", run, home=Path(memory))
        measure.take_turns([us, in_memory, them], runs(turns), str(BENCH / "log"))
    return us, in_memory, them


def chain() -> list[Row]:
    us, in_memory, them = processes("chain", STEPS, chained=True, turns=10)
    return [
        beside(f"chain of {STEPS} processes", us, them, 1.7),
        beside("  with its state in memory", in_memory, them),
        beside("  processor time", us, them, what="cpu"),
        alone("  peak memory", us, 60e6, what="peak"),
    ]


def fan() -> list[Row]:
    us, in_memory, them = processes("fan", STEPS, chained=False, turns=10)
    return [
        beside(f"fan of {STEPS} processes", us, them),
        beside("  with its state in memory", in_memory, them),
        beside("  processor time", us, them, what="cpu"),
    ]


def cold() -> list[Row]:
    us, in_memory, _ = processes("cold", 1, chained=False, turns=40)
    return [
        alone("one step, cold start", us, 0.040),
        alone("  with its state in memory", in_memory, None),
        alone("  processor time", us, None, what="cpu"),
    ]


# --- durable runs -------------------------------------------------------------------------------


def noop() -> list[Row]:
    found = {on: durable.durability("noop", on)["median_ms"] / 1000 for on in durable.STORES}
    return [
        row("3 steps that do nothing, SQLite", seconds(found["SQLite"]), 300, target="≤ 4.0 ms",
            met=found["SQLite"] <= 0.004),
        row("3 steps that do nothing, Postgres", seconds(found["Postgres"]), 300),
    ]


def many() -> list[Row]:
    rows = []
    for on in durable.STORES:
        rate = durable.durability("many", on)["transitions_a_second"]
        rows.append(row(f"200 runs at a time, {on}", f"{rate:,.0f} /s", 5, target="≥ 5,000 /s",
                        met=rate >= 5000))
    return rows


def flat() -> list[Row]:
    """A transition among 10,000 steps by one among 1,000: 1 is flat."""
    rows = []
    for on in ["memory", "SQLite"]:
        found = durable.durability("flat", on)
        for shape in ["chain", "fan"]:
            small, large = found[f"{shape}_1000_us"], found[f"{shape}_10000_us"]
            rows.append(row(f"{shape} of 10,000, a transition, {on}", f"{large:.0f} µs", 1,
                            "1,000 steps", f"{small:.0f} µs", large / small))
    return rows


def finished() -> list[Row]:
    """The same store empty, and beside 100,000 finished runs."""
    rows = []
    for on in durable.STORES:
        found = durable.durability("finished", on)
        empty, full = found["empty"], found["full"]
        for key, what in [("list_ms", "the newest 50 runs"), ("run_ms", "a run of 3 steps")]:
            rows.append(row(f"{what} of 100,000, {on}", f"{full[key]:.2f} ms", 50,
                            "empty store", f"{empty[key]:.2f} ms", full[key] / empty[key]))
    return rows


def engines() -> list[Row]:
    """A chain beside engines that keep one as safely: of processes, and of steps that do nothing."""
    pipeline, _ = graph("engines", STEPS, chained=True)
    run = ["run", str(pipeline), "--quiet", "--max-parallel", "2"]
    rows = []
    for them in durable.peers():
        us = ours("engines", run)
        within = []
        with them:
            # Our store is theirs where we have it.
            on = "Postgres" if "Postgres" in them.name else "SQLite"
            for number in range(runs(5) + 1):
                count = number > 0
                measure.once(us, number, str(BENCH / "log"), count)
                them.chain(STEPS, "true", count)
                them.chain(STEPS, "nothing", count)
                if count:
                    within.append(durable.durability("chain", on)["median_ms"] / 1000)
        name = f"{them.name} {them.version}"
        for work, here, there in [
            (f"chain of {STEPS} processes", us.median("wall"), them.median("true")),
            (f"chain of {STEPS} that do nothing, {on}", median(within), them.median("nothing")),
        ]:
            rows.append(row(work, seconds(here), len(within), name, seconds(there), here / there,
                            "< 1.00 ×", here < there))
    return rows


# --- bills of materials -------------------------------------------------------------------------


def shop_packages() -> Iterator[tuple[str, bytes]]:
    """The packages of the shop, wheels and Node packages, as files of an image."""
    vendor = Path(os.environ["SHOP"]) / "vendor"
    for wheel in sorted((vendor / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if not name.endswith("/"):
                    yield f"usr/lib/python3/dist-packages/{name}", archive.read(name)
    modules = vendor / "node_modules"
    for path in sorted(modules.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield f"srv/worker/node_modules/{path.relative_to(modules)}", path.read_bytes()


def sbom() -> list[Row]:
    shop = images.write_layer(BENCH / "shop.tar.gz", shop_packages())
    image = REGISTRY.image("debian", "12", [Path(os.environ["DEBIAN_LAYER"]), shop])
    out = BENCH / "syft"
    out.mkdir(exist_ok=True)
    syft = os.environ["SYFT"]
    them = Contender(
        "syft",
        version(syft, "version"),
        lambda _: [
            syft, f"registry:{image}", "-q",
            "-o", f"spdx-json={out}/spdx.json", "-o", f"cyclonedx-json={out}/cyclonedx.json",
        ],
        {
            "SYFT_REGISTRY_INSECURE_USE_HTTP": "true",
            "SYFT_CHECK_FOR_APP_UPDATE": "false",
        },
    )
    us = ours("fairlead", ["steps", "run", "sbom", "--quiet", "--with", f"image={image}"])
    measure.take_turns([us, them], runs(3), str(BENCH / "log"))
    return [
        beside("SBOM of Debian, Python, Node", us, them, 1 / 6),
        beside("  processor time", us, them, what="cpu"),
        beside("  peak memory", us, them, 1 / 6, what="peak"),
    ]


# --- signatures ---------------------------------------------------------------------------------


def key_pair() -> tuple[Path, Path]:
    """An encrypted key as cosign makes it."""
    folder = BENCH / "keys"
    if not folder.exists():
        folder.mkdir()
        subprocess.run(
            [peer("cosign2"), "generate-key-pair"], cwd=folder, check=True, capture_output=True,
            env={**os.environ, "COSIGN_PASSWORD": PASSWORD},
        )
        config = subprocess.run(
            [peer("cosign3"), "signing-config", "create"], check=True, capture_output=True
        )
        # It names no services: a signature that stands on the key alone.
        (folder / "no-services.json").write_bytes(config.stdout)
    return folder / "cosign.key", folder / "cosign.pub"


def small_image(name: str) -> str:
    """An image of its own, so that nobody finds a signature that is there already."""
    files = [("name", name.encode()), ("content", bytes(64 * 1024))]
    layer = images.write_layer(BENCH / "small.tar.gz", files)
    return REGISTRY.image("small", re.sub(r"\W+", "-", name), [layer])


def sign_with_us(name: str, formats: list[str]) -> Contender:
    key, _ = key_pair()
    secrets = ["--secret", f"cosign=file:{key}", "--secret", "password=env:COSIGN_PASSWORD"]
    with_secrets = ["key={{ secrets.cosign }}", "password={{ secrets.password }}"]

    def args(number: int) -> list[str]:
        image = small_image(f"{name}-{number}")
        given = [f"image={image}", f"formats={json.dumps(formats)}", *with_secrets]
        return ["steps", "run", "sign", "--quiet", *secrets, *[f"--with={w}" for w in given]]

    return ours(name, args, COSIGN_PASSWORD=PASSWORD)


def cosign(major: int, command) -> Contender:
    program = peer(f"cosign{major}")
    env = {"COSIGN_PASSWORD": PASSWORD}
    release = packaged_version(f"cosign{major}")
    return Contender("cosign", release, lambda n: [program, *command(n)], env)


def sign() -> list[Row]:
    key, _ = key_pair()
    alone_on_key = {
        2: ["--tlog-upload=false"],
        3: ["--signing-config", str(key.with_name("no-services.json"))],
    }

    def with_cosign(major: int) -> Contender:
        def command(number: int) -> list[str]:
            image = small_image(f"cosign{major}-{number}")
            return ["sign", "--yes", *alone_on_key[major], "--key", str(key), image]

        return cosign(major, command)

    us = {name: sign_with_us(f"sign {name}", formats) for name, formats in
          {"v2": ["v2"], "v3": ["v3"], "both": ["v2", "v3"]}.items()}
    two, three = with_cosign(2), with_cosign(3)
    measure.take_turns([*us.values(), two, three], runs(15), str(BENCH / "log"))
    return [
        beside("sign, cosign 2's format", us["v2"], two),
        beside("sign, cosign 3's format", us["v3"], three),
        alone("sign, both formats", us["both"], None),
    ]


def verify() -> list[Row]:
    key, public = key_pair()
    image = small_image("verify")
    secrets = ["--secret", f"cosign=file:{key}", "--secret", "password=env:COSIGN_PASSWORD"]
    given = [f"image={image}", "key={{ secrets.cosign }}", "password={{ secrets.password }}"]
    signing = ours("fairlead", ["steps", "run", "sign", *secrets, *[f"--with={w}" for w in given]],
                   COSIGN_PASSWORD=PASSWORD)
    measure.once(signing, 0, str(BENCH / "log"), count=False)
    us = ours("fairlead", ["steps", "run", "verify", "--quiet", "--with", f"image={image}",
                           "--with", f"key={public.read_text()}"])
    args = ["verify", "--insecure-ignore-tlog=true", "--key", str(public), image]
    two, three = cosign(2, lambda _: args), cosign(3, lambda _: args)
    measure.take_turns([us, two, three], runs(15), str(BENCH / "log"))
    return [
        beside("verify, both formats", us, two),
        beside("verify, both formats", us, three),
    ]


# --- copies -------------------------------------------------------------------------------------


def copy() -> list[Row]:
    image = small_image("copied")
    host = REGISTRY.host

    def us_args(number: int) -> list[str]:
        given = [f"image={image}", f"to={host}/ours/r{number}", 'tags=["v1"]']
        return ["steps", "run", "promote", "--quiet", *[f"--with={w}" for w in given]]

    us = ours("fairlead", us_args)
    crane, oras, skopeo = peer("crane"), peer("oras"), peer("skopeo")
    peers = [
        Contender("crane copy", packaged_version("crane"),
                  lambda n: [crane, "copy", image, f"{host}/crane/r{n}:v1"]),
        Contender("oras cp -r", version(oras, "version"),
                  lambda n: [oras, "cp", "-r", "--from-plain-http", "--to-plain-http",
                             image, f"{host}/oras/r{n}:v1"]),
        Contender("skopeo copy", version(skopeo, "--version"),
                  lambda n: [skopeo, "--insecure-policy", "copy", "--src-tls-verify=false",
                             "--dest-tls-verify=false", f"docker://{image}",
                             f"docker://{host}/skopeo/r{n}:v1"]),
    ]
    measure.take_turns([us, *peers], runs(20), str(BENCH / "log"))
    return [beside("copy of a small image", us, them) for them in peers]


# --- the table ----------------------------------------------------------------------------------

WORKS = [
    chain, fan, cold, noop, many, flat, finished, engines, sbom, sign, verify, copy,
    edge.webhooks, edge.starts, runners.waiting, runners.logged, runners.idle,
]


def main() -> None:
    known = {work.__name__: work for work in WORKS}
    unknown = [name for name in sys.argv[1:] if name not in known]
    if unknown:
        raise SystemExit(f"there is no work {unknown[0]}; there are {', '.join(known)}")
    began = machine()
    rows = []
    for name in sys.argv[1:] or known:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        rows += known[name]()
    print(f"fairlead {version(FAIRLEAD, '--version')} on {began} at the start\n")
    print(table(rows))
    print("\nMedians of runs in turn, after one each that does not count; a ratio is fairlead's "
          "figure by the peer's.")
    (BENCH / "results.json").write_text(json.dumps([vars(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
