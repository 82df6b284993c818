"""Makes an advisory database as cargo-deny reads it from a dump of OSV: `advisories.py DUMP FOLDER`.

The dump is the `all.zip` of crates.io. Of it the records are taken that RustSec wrote: those are the
ones that its own database holds. The folder becomes a git repository with a file for each record.
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

FROM_THE_START = ("0", "0.0.0", "0.0.0-0")


def versions(ranges: list[dict]) -> tuple[list[str], list[str]]:
    """What is patched and what never was affected, from the events of ranges.

    A record says from where a crate is bad and where that ends; the database says where it is good.
    """
    spans = []
    for one in ranges:
        began = None
        for event in one["events"]:
            if "introduced" in event:
                began = event["introduced"]
                spans.append((began, None))
            elif "fixed" in event and began is not None:
                spans[-1] = (began, event["fixed"])
                began = None
    patched, unaffected = [], []
    if spans and spans[0][0] not in FROM_THE_START:
        unaffected.append(f"< {spans[0][0]}")
    for (_, fixed), after in zip(spans, [*spans[1:], None]):
        if fixed is not None:
            patched.append(f">= {fixed}" + (f", < {after[0]}" if after else ""))
    return patched, unaffected


def advisory(record: dict, affected: dict) -> str:
    """The file of one record: its facts as TOML, then its text."""
    patched, unaffected = versions(affected.get("ranges", []))
    informational = (affected.get("database_specific") or {}).get("informational")
    facts = [
        "[advisory]",
        f"id = {json.dumps(record['id'])}",
        f"package = {json.dumps(affected['package']['name'])}",
        f"date = {json.dumps(record['published'][:10])}",
        f"aliases = {json.dumps(record.get('aliases', []))}",
    ]
    if informational:
        facts.append(f"informational = {json.dumps(informational)}")
    if record.get("withdrawn"):
        facts.append(f"withdrawn = {json.dumps(record['withdrawn'][:10])}")
    facts += ["", "[versions]", f"patched = {json.dumps(patched)}"]
    facts.append(f"unaffected = {json.dumps(unaffected)}")
    title = " ".join(record.get("summary", record["id"]).split())
    text = record.get("details", "")
    return "```toml\n" + "\n".join(facts) + f"\n```\n\n# {title}\n\n{text}\n"


def main() -> None:
    dump, folder = Path(sys.argv[1]), Path(sys.argv[2])
    count, others, newest = 0, 0, ""
    with zipfile.ZipFile(dump) as archive:
        for name in sorted(archive.namelist()):
            record = json.loads(archive.read(name))
            if not record["id"].startswith("RUSTSEC-"):
                others += 1
                continue
            newest = max(newest, record["modified"])
            for affected in record["affected"]:
                package = folder / "crates" / affected["package"]["name"]
                package.mkdir(parents=True, exist_ok=True)
                (package / f"{record['id']}.md").write_text(advisory(record, affected))
            count += 1
    git = ["git", "-C", str(folder), "-c", "user.name=OSV", "-c", "user.email=osv@localhost"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "OSV"]):
        subprocess.run([*git, *command], check=True)
    print(f"{count} advisories, the newest of {newest[:10]}; {others} that RustSec did not write are left out")


if __name__ == "__main__":
    main()
