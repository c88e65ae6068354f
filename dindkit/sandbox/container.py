"""The sandbox on a Docker engine: for hosts that can run no Debian program themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any

import docker

from dindkit import leftovers
from dindkit.formats.entry import Entry
from dindkit.formats.tar_writer import Writer
from dindkit.sandbox import confine, worker
from dindkit.sandbox.interface import (
    ENVIRONMENT,
    HOSTNAME,
    PACKAGES_FOLDER,
    SandboxError,
    ScriptRun,
    Taken,
    failure,
)
from dindkit.threads import written_by

#: What this module makes in an engine has this kind in its label: see leftovers.
KIND = "sandbox"


class _Chunks(RawIOBase):
    """A file object that reads from an iterable of chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._ready = memoryview(chunk)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _chunks(pipe: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: pipe.read(1 << 20), b"")


class Container:
    """A container without network, made of the tree and thrown away afterwards, on the engine of `client`."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client, self._api = client, client.api

    def run(self, run: ScriptRun[Taken]) -> Taken:
        """See Sandbox. The size is not limited: the engine fails where its data root is full."""
        image = container = ""
        labels = leftovers.labels(KIND)
        try:
            leftovers.sweep(self._client, kind=KIND)
            with written_by(run.write_tree) as pipe:
                words = [f"LABEL {name}={value}" for name, value in labels.items()]
                image = _imported(self._api.import_image_from_stream(_chunks(pipe), changes=words))
            container = self._api.create_container(
                image,
                labels=labels,
                command=["/bin/sh", "-euc", run.script],
                environment={**ENVIRONMENT, **run.environment},
                hostname=HOSTNAME,
                user="0:0",
                host_config=self._api.create_host_config(
                    network_mode="none",
                    cap_drop=["ALL"],
                    cap_add=[name.upper() for name in confine.KEPT],
                    security_opt=["no-new-privileges"],
                ),
            )["Id"]
            if run.packages:
                with written_by(partial(_write_packages, run.packages)) as pipe:
                    self._api.put_archive(container, "/", _chunks(pipe))
            self._api.start(container)
            code = self._api.wait(container)["StatusCode"]
            if code:
                said = self._api.logs(container, tail=20).decode(errors="replace")
                raise failure(worker.SCRIPT_FAILED, said)
            return run.read_tree(BufferedReader(_Chunks(self._api.export(container))))
        except docker.errors.DockerException as error:
            raise SandboxError(f"The Docker engine could not run the maintainer scripts: {error}.") from error
        finally:
            with suppress(docker.errors.DockerException):
                if container:
                    self._api.remove_container(container, force=True, v=True)
                if image:
                    self._api.remove_image(image, force=True)


def _write_packages(folder: Path, out: IO[bytes]) -> None:
    """Write the files in `folder` as a tar stream of PACKAGES_FOLDER."""
    writer = Writer(out)
    writer.add(Entry(PACKAGES_FOLDER, "dir", 0o755))
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            entry = Entry(f"{PACKAGES_FOLDER}/{path.name}", "file", 0o644, size=path.stat().st_size)
            writer.add(entry, iter(partial(file.read, 1 << 20), b""))
    writer.close()


def _imported(answer: str) -> str:
    """Return the image id in an engine's answer to an import: lines of JSON, the last of them the id."""
    last = json.loads(answer.strip().splitlines()[-1])
    if "status" not in last:
        raise SandboxError(f"The Docker engine did not take the tree: {last.get('error', last)}.")
    return str(last["status"])
