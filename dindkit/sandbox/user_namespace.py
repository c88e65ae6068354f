"""A user namespace in which an ordinary user is root and has many ids: user_namespaces(7), subuid(5)."""

from __future__ import annotations

import os
from pathlib import Path

from dindkit import process
from dindkit.sandbox.interface import NEXT_STEP, NoSandboxError

#: Options of unshare(1).
OPTIONS = ("--user", "--map-root-user", "--map-auto")

#: The kernel's settings that forbid user namespaces to users, the value that does so, and one that does not.
#: The second is Debian's own, the third Ubuntu's.
SWITCHES = (
    ("user.max_user_namespaces", "0", "15000"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)


class NoUserNamespaceError(NoSandboxError):
    """The user can make no such namespace; `reason` is a clause that says why."""

    def __init__(self, reason: str, next_step: str) -> None:
        super().__init__(f"There is no root here, and {reason}.", next_step)
        self.reason = reason


def require() -> None:
    """Raise NoUserNamespaceError or ToolMissingError where this user can make no such namespace."""
    # Tried first: where the kernel refuses, `unshare --map-auto` would leave its helper process behind. With
    # a mount namespace, because AppArmor lets some have a user namespace, and no right in it.
    tried = process.run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=False)
    refused = tried.stderr.decode(errors="replace").strip()
    if refused:
        for name, forbids, allows in SWITCHES:
            if _setting(name) == forbids:
                raise NoUserNamespaceError(
                    f"the kernel lets users make no user namespace ({name} is {forbids})",
                    f"As root, run: sysctl -w {name}={allows}",
                )
        raise NoUserNamespaceError(f"no user namespace ({refused})", NEXT_STEP)
    process.require("newuidmap")
    user = str(os.getuid())
    if not all(user in _owners(Path("/etc") / name) for name in ("subuid", "subgid")):
        raise NoUserNamespaceError(
            "this user has no subordinate ids",
            "Run as root, or: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        )


def _setting(name: str) -> str:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return ""


def _owners(file: Path) -> set[str]:
    """Return the numeric ids that own a range in subuid(5) or subgid(5)."""
    import pwd  # missing on some hosts that build with an engine

    names = {line.partition(":")[0] for line in file.read_text().splitlines()} if file.is_file() else set()
    return {str(pwd.getpwnam(name).pw_uid) if not name.isdigit() else name for name in names if _known(name)}


def _known(name: str) -> bool:
    import pwd

    if name.isdigit():
        return True
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
