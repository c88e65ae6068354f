"""Debian packages made on the spot, the honest ones and the others."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Link:
    """A symbolic link in a package."""

    target: str


#: Path in the package (no leading slash) -> content, or a link. Programs, and files in a `bin` or `sbin`, are
#: executable.
Files = Mapping[str, bytes | str | Link]

#: Tar members exactly as given, for packages that must be refused.
Members = Iterable[tuple[tarfile.TarInfo, bytes]]


def build(
    control: Mapping[str, str], files: Files, scripts: Mapping[str, str], members: Members = ()
) -> bytes:
    """Return a package as deb(5) describes it, the same bytes for the same arguments.

    `scripts` are maintainer scripts by name (`postinst`) and any other member of the control archive.
    """
    stanza = "".join(f"{name}: {value}\n" for name, value in control.items())
    inside: dict[str, bytes | str | Link] = {"control": stanza, **scripts}
    data = [*_entries(files), *members]
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar(_entries(inside, executable=set(scripts) - {"conffiles", "triggers"})),
        "data.tar.gz": _tar(data),
    }
    return b"!<arch>\n" + b"".join(_member(name, content) for name, content in parts.items())


def write(folder: Path, control: Mapping[str, str], package: bytes) -> Path:
    """Put a package under the name that archives give it, and return its path."""
    version = control["Version"].partition(":")[2] or control["Version"]
    path = folder / f"{control['Package']}_{version}_{control['Architecture']}.deb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(package)
    return path


def _entries(files: Files, executable: Iterable[str] = ()) -> list[tuple[tarfile.TarInfo, bytes]]:
    entries: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    for name in sorted(files):
        for parent in reversed(Path(name).parents):
            folder = tarfile.TarInfo("./" if parent == Path() else f"./{parent}/")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            entries.setdefault(folder.name, (folder, b""))
        content = files[name]
        info = tarfile.TarInfo(f"./{name}")
        if isinstance(content, Link):
            info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, content.target
            entries[name] = (info, b"")
            continue
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        runs = name in executable or Path(name).parent.name in ("bin", "sbin") or data.startswith(b"\x7fELF")
        info.size, info.mode = len(data), 0o755 if runs else 0o644
        entries[name] = (info, data)
    return list(entries.values())


def _tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in entries:
            info.mtime = info.mtime or 1_700_000_000
            info.uname = info.gname = "root"
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), compresslevel=1, mtime=0)  # whole programs are in some


def _member(name: str, content: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
    return head + content + b"\n" * (len(content) % 2)
