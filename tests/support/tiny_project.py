"""A project of two images so small that a build takes a second: dpkg, a shell, and what these two need.

The programs are this host's own, so nothing is downloaded but from an archive on loopback.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dindkit.image.build_options import BuildOptions
from tests.support import deb
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, make_project, serve
from tests.support.local_project import LocalProject, lent

#: What dpkg asks for, and what its scripts call.
PROGRAMS = ("sh", "ln", "rm", "tar", "dpkg", "dpkg-deb", "dpkg-split")
#: What dpkg wants to see, and never runs for packages like these.
UNUSED = ("diff", "ldconfig", "start-stop-daemon")

BASE = "essential = true\npackages = []\n"
APP = 'parent = "base"\npackages = ["greeter"]\n'


def files() -> dict[str, bytes | str | deb.Link]:
    """Return the files of a root in which dpkg runs, in the layout of merged /usr."""
    found: dict[str, bytes | str | deb.Link] = {
        name: deb.Link(f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")
    }
    for program in PROGRAMS:
        path = shutil.which(program)
        assert path, f"{program} is missing"
        found[f"usr/bin/{program}"] = Path(path).resolve().read_bytes()
        libraries = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+) \(0x", libraries):
            name = f"usr/{library.removeprefix('/usr/').removeprefix('/')}"
            found[name] = Path(library).resolve().read_bytes()
    for program in UNUSED:
        found[f"usr/sbin/{program}"] = "#!/bin/sh\n"
    found["etc/passwd"] = "root:x:0:0:root:/root:/bin/sh\n"
    found["etc/group"] = "root:x:0:\n"
    found["var/lib/dpkg/info/.keep"] = ""
    return found


@contextmanager
def tiny_project(folder: Path, key_ring: KeyRing, base: str = BASE) -> Iterator[LocalProject]:
    """Yield a project under `folder` whose images `base` and `app` are locked, and not built.

    `base` is the recipe of that image.
    """
    archive = ArchiveBuilder(folder / "archive", key_ring, key_ring.make())
    target = BuildOptions().target
    archive.add_deb("tiny", "1.0", architecture=target, fields={"Essential": "yes"}, files=files())
    archive.add_deb("greeter", "1.0", files={"usr/bin/greet": "#!/bin/sh\necho hello\n"})
    with serve(archive.folder) as server:
        made = make_project(folder / "project", Pin("debian", archive, server.url))
        for name, text in (("base", base), ("app", APP)):
            (made.images / name).mkdir(parents=True)
            (made.images / name / "image.toml").write_text(text)
        local_project = LocalProject(made, archive, server, io.StringIO())
        local_project.publish()
        local_project.lock()
        yield local_project


#: Makes a layer of the recipe's own, beside that of base's packages.
FOLDERS = '[folders]\n"/srv/base" = "0755"\n'


@pytest.fixture(scope="session")
def shared_small_project(
    key_ring: KeyRing, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalProject]:
    with tiny_project(tmp_path_factory.mktemp("small"), key_ring, BASE + FOLDERS) as made:
        yield made


@pytest.fixture
def small_project(shared_small_project: LocalProject) -> Iterator[LocalProject]:
    """Lend a project of three small layers, for tests to which it is nothing what packages hold.

    Archive, locks and recipe are put back afterwards.
    """
    with lent(shared_small_project) as project:
        yield project
