"""A user of this machine with subordinate ids and nothing else, who runs this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
FIRST, LAST = 700000, 765535

#: Run as root in a mount namespace: interpreter, libraries and checkout appear where the user can read them,
#: even if they lie below a closed home. SETUP may mount more.
BECOME = """
python=$1 site=$2 checkout=$3 place=$4 user=$5
shift 5
mount --bind "$python" "$place/python"
mount --bind "$site" "$place/site"
mount --bind "$checkout" "$place/checkout"
eval "${SETUP:-}"
umask 077
inside=/
if [ -n "${CHROOT:-}" ]; then
    inside=$place/root
    mount --rbind / "$inside"
fi
exec chroot "$inside" setpriv --reuid "$user" --regid "$user" --init-groups "$@"
"""


@dataclass(frozen=True)
class OrdinaryUser:
    """The user, and a folder in which `home` belongs to them."""

    name: str
    place: Path

    @property
    def home(self) -> Path:
        return self.place / "home"

    @property
    def python(self) -> str:
        return str(self.place / "python/bin/python3")

    def own(self, folder: Path) -> None:
        """Give all of `folder` to the user."""
        subprocess.run(["chown", "-R", f"{self.name}:", folder], check=True)

    def command(self, *argv: str) -> list[str]:
        """Return the command line, for root, that runs `argv` as the user."""
        paths = [sys.base_prefix, sysconfig.get_path("purelib"), str(HERE), str(self.place), self.name]
        return ["unshare", "--mount", "sh", "-euc", BECOME, "sh", *paths, *argv]

    def environment(self) -> dict[str, str]:
        """Return the variables with which Python finds this checkout."""
        return {
            "HOME": str(self.home),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{self.place / 'checkout'}:{self.place / 'site'}",
        }

    def give_subordinate_ids(self) -> None:
        ids = ["--add-subuids", f"{FIRST}-{LAST}", "--add-subgids", f"{FIRST}-{LAST}"]
        subprocess.run(["usermod", *ids, self.name], check=True)

    def take_subordinate_ids(self) -> None:
        """Leave the user none of their subordinate ids."""
        for file in ("/etc/subuid", "/etc/subgid"):
            subprocess.run(["sed", "-i", f"/^{self.name}:/d", file], check=True)

    def processes(self) -> list[str]:
        """Return the command lines of the processes of the user, and of all of their subordinate ids."""
        own = int(subprocess.run(["id", "-u", self.name], capture_output=True, check=True).stdout)
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                user = folder.stat().st_uid
                if user == own or FIRST <= user <= LAST:
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return [line for line in found if line]


@contextmanager
def new_user() -> Iterator[OrdinaryUser]:
    """Make a user; they and all that is theirs are gone at the end."""
    name, place = f"dindkit{os.getpid()}", Path("/tmp") / f"dindkit-user-{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", "--home-dir", "/nonexistent", name], check=True)
    user = OrdinaryUser(name, place)
    try:
        user.take_subordinate_ids()  # useradd gives some to whom it takes for a person
        user.give_subordinate_ids()
        for folder in ("python", "site", "checkout", "home", "root"):
            (place / folder).mkdir(parents=True)
        user.own(user.home)
        yield user
    finally:
        shutil.rmtree(place)
        user.take_subordinate_ids()
        subprocess.run(["userdel", name], check=True, capture_output=True)


@pytest.fixture
def ordinary_user() -> Iterator[OrdinaryUser]:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a user")
    with new_user() as user:
        yield user
