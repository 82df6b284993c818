"""Images for the benchmarks, pushed to a registry blob by blob.

Layers are files and are never held in memory: the peak of a measured program counts from that of
the process that started it, which is this one.
"""

import gzip
import hashlib
import http.client
import io
import json
import os
import tarfile
from pathlib import Path
from typing import BinaryIO, Iterable

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def sha256(data: BinaryIO) -> str:
    return "sha256:" + hashlib.file_digest(data, "sha256").hexdigest()


class Registry:
    """A registry on this machine that lets everybody in."""

    def __init__(self, host: str):
        self.host = host

    def _send(self, method: str, path: str, body: BinaryIO, size: int, kind: str) -> str:
        """Sends a request; answers the place that the registry names."""
        connection = http.client.HTTPConnection(self.host, timeout=120)
        headers = {"Content-Type": kind, "Content-Length": str(size)}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status not in (201, 202):
            raise SystemExit(f"{method} {path}: the registry answers {answer.status}")
        return answer.headers.get("Location", "")

    def blob(self, repository: str, data: BinaryIO) -> dict:
        size = data.seek(0, os.SEEK_END)
        data.seek(0)
        digest = sha256(data)
        data.seek(0)
        begun = self._send("POST", f"/v2/{repository}/blobs/uploads/", io.BytesIO(), 0, "text/plain")
        place = begun.split(self.host, 1)[-1]
        mark = "&" if "?" in place else "?"
        self._send("PUT", f"{place}{mark}digest={digest}", data, size, "application/octet-stream")
        return {"digest": digest, "size": size}

    def image(self, repository: str, tag: str, layers: list[Path]) -> str:
        """Pushes an image of gzipped layers; answers its name by digest."""
        described, diff_ids = [], []
        for layer in layers:
            with layer.open("rb") as data:
                described.append({"mediaType": LAYER, **self.blob(repository, data)})
            with gzip.open(layer, "rb") as unpacked:
                diff_ids.append(sha256(unpacked))
        config = json.dumps({
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": {"Cmd": ["/bin/bash"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }).encode()
        manifest = json.dumps({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **self.blob(repository, io.BytesIO(config))},
            "layers": described,
        }).encode()
        path = f"/v2/{repository}/manifests/{tag}"
        self._send("PUT", path, io.BytesIO(manifest), len(manifest), MANIFEST)
        return f"{self.host}/{repository}@{sha256(io.BytesIO(manifest))}"


def write_layer(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Writes a gzipped layer with these files."""
    with tarfile.open(path, mode="w:gz", compresslevel=6) as archive:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return path
