"""A registry on this machine, which an engine in a test takes for the internet."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dindkit.engine.discover import Engine


@contextmanager
def upstream(engine: Engine, folder: Path, images: Mapping[str, bytes]) -> Iterator[str]:
    """Serve `images` (name to content of the archive) over HTTP; yield its address as `engine` sees it."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: '0.0.0.0:{port}'}}\n"
    )
    command = ["docker-registry", "serve", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not _listens(port):
                assert server.poll() is None
                time.sleep(0.05)
            archive = folder / "image.tar"
            for name, content in images.items():
                archive.write_bytes(content)
                copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"docker-archive:{archive}"]
                subprocess.run([*copy, f"docker://127.0.0.1:{port}/{name}"], check=True)
            gateway = engine.client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
            yield f"{gateway}:{port}"
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
