"""Images for the benchmarks, pushed to a registry blob by blob."""

import gzip
import hashlib
import http.client
import io
import json
import os
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """A registry on this machine that lets everybody in."""

    def __init__(self, host: str):
        self.host = host

    def _send(self, method: str, path: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=120)
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        answer.read()
        if answer.status not in (201, 202):
            raise SystemExit(f"{method} {path}: the registry answers {answer.status}")
        return answer

    def blob(self, repository: str, data: bytes) -> dict:
        begun = self._send("POST", f"/v2/{repository}/blobs/uploads/", b"", "text/plain")
        place = begun.headers["Location"].split(self.host, 1)[-1]
        mark = "&" if "?" in place else "?"
        path = f"{place}{mark}digest={sha256(data)}"
        self._send("PUT", path, data, "application/octet-stream")
        return {"digest": sha256(data), "size": len(data)}

    def image(self, repository: str, tag: str, layers: list[bytes]) -> str:
        """Pushes an image of gzipped layers; answers its name by digest."""
        config = {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": {"Cmd": ["/bin/bash"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id(layer) for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **self.blob(repository, json.dumps(config).encode())},
            "layers": [{"mediaType": LAYER, **self.blob(repository, layer)} for layer in layers],
        }
        data = json.dumps(manifest).encode()
        self._send("PUT", f"/v2/{repository}/manifests/{tag}", data, MANIFEST)
        return f"{self.host}/{repository}@{sha256(data)}"


def diff_id(layer: bytes) -> str:
    """The digest of a layer as it is unpacked."""
    digest = hashlib.sha256()
    with gzip.GzipFile(fileobj=io.BytesIO(layer)) as archive:
        while chunk := archive.read(1 << 20):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def layer_of(files: dict[str, bytes]) -> bytes:
    """A gzipped layer with these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
