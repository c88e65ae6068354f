r"""Real apt archives for tests: real packages, real indexes, real signatures, served on loopback.

    archive = ArchiveBuilder(tmp_path / "archive", ring, ring.make())
    archive.add_deb("hello", "1.0", depends="libc6", files={"usr/bin/hello": "#!/bin/sh\necho hello\n"})
    archive.publish("trixie")
    with serve(archive.folder) as server:
        project = make_project(tmp_path / "project", Pin("debian", archive, server.url))
        # keys.load(project.keys), DownloadCache(project.cache) … as on a real archive

`key_ring` is a `KeyRing`; the fixture of this name in tests/packages/conftest.py is shared over the session.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from dindkit.packages.lock import Row
from dindkit.packages.stanza import fields
from dindkit.project import Project
from tests.support import deb
from tests.support.server import Faults, Server, serve
from tests.support.signing import KeyRing

__all__ = ["ArchiveBuilder", "Faults", "KeyRing", "Pin", "Server", "make_project", "serve"]


class ArchiveBuilder:
    """An archive under `folder`, signed by the keys `signers` of `key_ring`."""

    def __init__(self, folder: Path, key_ring: KeyRing, *signers: str) -> None:
        self.folder = folder
        self.key_ring = key_ring
        self.signers = signers
        #: The stanzas of Packages so far, in the order in which they were added.
        self.stanzas: list[dict[str, str]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add_deb(
        self,
        name: str,
        version: str = "1.0",
        *,
        architecture: str = "all",
        depends: str = "",
        fields: Mapping[str, str] | None = None,
        files: deb.Files | None = None,
        scripts: Mapping[str, str] | None = None,
        members: deb.Members = (),
        inside: Mapping[str, str] | None = None,
    ) -> Path:
        """Make a package and add it; `fields` are further control fields (`Provides`, `Essential` …).

        `inside` changes control fields in the package only, not in the index: such a package lies.
        """
        control = {
            "Package": name,
            "Version": version,
            "Architecture": architecture,
            "Maintainer": "Test <test@example.org>",
            "Priority": "optional",
            "Section": "misc",
            "Installed-Size": "1",
            **({"Depends": depends} if depends else {}),
            **(fields or {}),
            "Description": f"test package {name}",
        }
        content = {f"usr/share/doc/{name}/copyright": f"{name}: public domain\n", **(files or {})}
        package = deb.build({**control, **(inside or {})}, content, scripts or {}, members)
        return self._add(control, deb.write(self.folder / "pool" / name, control, package))

    def add_row(self, row: Row, path: Path) -> Path:
        """Add the package of a lock's row, whose .deb is at `path` under another name.

        Its control fields alone are read, by dpkg: that it is what the lock says was seen before.
        """
        name = f"{row.name}_{row.version.partition(':')[2] or row.version}_{row.architecture}.deb"
        told = subprocess.run(["dpkg-deb", "--field", path], capture_output=True, check=True).stdout
        return self.add_file(path, fields(told.decode()), name)

    def add_file(self, path: Path, control: Mapping[str, str], name: str = "") -> Path:
        """Add an existing .deb whose control fields are `control`, as `name` if it is not to keep its own."""
        place = self.folder / "pool" / control["Package"] / (name or path.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        return self._add(control, place)

    def path(self, name: str) -> str:
        """Return the path of a package as a server sees it (`/pool/…`)."""
        (found,) = [one["Filename"] for one in self.stanzas if one["Package"] == name]
        return f"/{found}"

    def publish(
        self,
        suite: str,
        *,
        component: str = "main",
        architecture: str = "amd64",
        date: float | None = None,
        valid_for: float | None = None,
        by_hash: bool = True,
        hashes: Iterable[str] = ("SHA256",),
        fields: Mapping[str, str] | None = None,
        change: Callable[[bytes], bytes] = bytes,
        digest: str = "SHA256",
        when: str = "",
    ) -> Path:
        """Write Packages, Packages.xz and InRelease of `suite`, and return the path of InRelease.

        `date` is in seconds since 1970 (default: now), `valid_for` seconds from then. `fields` overrides
        fields of InRelease; `change` gets its text before it is signed. `when` fakes the time of the
        signature.
        """
        packages = "\n".join(
            "".join(f"{name}: {value}\n" for name, value in stanza.items()) for stanza in self.stanzas
        ).encode("utf-8", "surrogateescape")
        top = self.folder / "dists" / suite
        index = f"{component}/binary-{architecture}/Packages"
        listed = {index: packages, f"{index}.xz": lzma.compress(packages)}
        for path, data in listed.items():
            by_name = top / path
            by_digest = by_name.parent / "by-hash" / "SHA256" / hashlib.sha256(data).hexdigest()
            for place in (by_name, by_digest) if by_hash else (by_name,):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
        date = time.time() if date is None else date
        said = {
            "Origin": "Test",
            "Suite": suite,
            "Codename": suite,
            "Date": formatdate(date, usegmt=True),
            **({"Valid-Until": formatdate(date + valid_for, usegmt=True)} if valid_for is not None else {}),
            **({"Acquire-By-Hash": "yes"} if by_hash else {}),
            "Architectures": architecture,
            "Components": component,
            **(fields or {}),
        }
        text = "".join(f"{name}: {value}\n" for name, value in said.items())
        for name in hashes:
            text += f"{name}:\n"
            for path, data in listed.items():
                text += f" {hashlib.new(name.removesuffix('Sum'), data).hexdigest()} {len(data)} {path}\n"
        signed = self.key_ring.clear_sign(change(text.encode()), *self.signers, digest=digest, when=when)
        (top / "InRelease").write_bytes(signed)
        return top / "InRelease"

    def _add(self, control: Mapping[str, str], path: Path) -> Path:
        data = path.read_bytes()
        place = {
            "Filename": str(path.relative_to(self.folder)),
            "Size": str(len(data)),
            "SHA256": hashlib.sha256(data).hexdigest(),
        }
        self.stanzas.append({**control, **place})
        return path


@dataclass
class Pin:
    """An archive as a project's keys/archives.toml is to describe it.

    `fingerprint` and `key` (the content of the key file) default to the archive's first signer.
    """

    name: str
    archive: ArchiveBuilder
    uris: str | list[str]
    suites: Mapping[str, list[str]] = field(default_factory=lambda: {"trixie": ["trixie"]})
    components: list[str] = field(default_factory=lambda: ["main"])
    snapshot: str = ""
    on_request: bool = False
    fingerprint: str = ""
    key: bytes = b""


def make_project(folder: Path, *pins: Pin) -> Project:
    """Write keys/ for `pins` under `folder`, and return a project with its own state and cache there."""
    keys = folder / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    lines = []
    for pin in pins:
        fingerprint = pin.fingerprint or pin.archive.signers[0].rstrip("!")
        (keys / f"{pin.name}.asc").write_bytes(pin.key or pin.archive.key_ring.public(fingerprint))
        uris = [pin.uris] if isinstance(pin.uris, str) else pin.uris
        suites = ", ".join(f"{ours} = {json.dumps(list(theirs))}" for ours, theirs in pin.suites.items())
        lines += [
            f"[archives.{pin.name}]",
            f"uris = {json.dumps(uris)}",
            f"snapshot = {json.dumps(pin.snapshot)}",
            f"suites = {{ {suites} }}",
            f"components = {json.dumps(pin.components)}",
            f'keys = ["{pin.name}.asc"]',
            f"on_request = {json.dumps(pin.on_request)}",
            f'[keys."{pin.name}.asc"]',
            f'fingerprint = "{fingerprint}"',
            'provenance = "made by the test"',
        ]
    (keys / "archives.toml").write_text("\n".join([*lines, ""]))
    # Which of the two is there, in a repository of the project, would depend on which test came before.
    (folder / ".gitignore").write_text("/state/\n/cache/\n")
    return Project(root=folder, state=folder / "state", cache=folder / "cache")
