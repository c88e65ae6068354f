"""The files and folders of an embedded engine, and the record of what must be known to stop it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dindkit import owner
from dindkit.embedded.host_state import HostState
from dindkit.engine import sockets
from dindkit.errors import EngineError
from dindkit.files import open_regular, replacing
from dindkit.project import Project


class Paths:
    """The files and folders of an embedded engine. The lock alone outlives `folder`."""

    def __init__(self, project: Project) -> None:
        self.folder = project.state / "engine"
        self.lock = project.state / "engine.lock"
        self.deleted = project.state / "engine.deleted"  # what `folder` is called while it is deleted
        self.trees = self.folder / "trees"  # one per image id
        self.data = self.folder / "data"  # /var/lib/docker
        self.begun = self.folder / "begun"  # there until an engine that begins with its image has it
        self.run = self.folder / "run"  # /run, with the socket
        self.etc = self.folder / "etc"  # files of the host's /etc that it needs
        self.machine = self.folder / "machine"  # an empty folder to mount on
        self.log = self.folder / "engine.log"
        self.record = self.folder / "record.json"
        self.socket = sockets.embedded(project)
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()
        self.cgroup = "dindkit-" + digest[:12]
        self.bridge = "dindkit" + digest[:8]  # the first name of docker0; 15 characters at most
        self.networks = self.data / "network/files/local-kv.db"  # dockerd's database of networks

    def link_socket(self) -> None:
        """Make a link to `run` where the socket's own path would be too long. Raises EngineError.

        Only root, and a user with a folder for sockets, have a place for it.
        """
        if self.socket.parent == self.run:
            return
        if not self.socket.parent.parent.is_dir():
            raise EngineError(
                f"The path of the state folder, {self.folder.parent}, is too long for a socket in it.",
                "Set DINDKIT_STATE to a shorter one.",
            )
        self.socket.parent.symlink_to(self.run)

    def log_tail(self, lines: int = 12) -> list[str]:
        """Return the last `lines` of the engine's log."""
        try:
            return self.log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            return []


#: Bytes of a record; the host's addresses and rules are in it.
LARGEST_RECORD = 16_000_000


@dataclass(frozen=True)
class Record:
    """What must be known to stop an engine, written before it starts.

    `before` is the state of root's network; an ordinary user's engine has a network of its own. `bridge` is
    the index of its docker0, or 0 until that is made. `owner` is the process for which alone it runs (an
    owner.Owner as text); empty for an engine that `engine.start` has started.
    """

    boot_id: str
    tree: str
    controllers: list[str] = field(default_factory=list)
    before: HostState | None = None
    bridge: int = 0
    owner: str = ""

    @property
    def abandoned(self) -> bool:
        """Return whether the process for which alone the engine runs has ended."""
        maker = owner.parse(self.owner)
        return maker is not None and owner.is_abandoned(maker)

    @classmethod
    def load(cls, file: Path) -> Record | None:
        """Return what `file` holds, or None where there is no such file.

        Raises EngineError for what another version of this program wrote.
        """
        try:
            with open_regular(file) as opened:
                values = json.loads(opened.read(LARGEST_RECORD))
            before = values["before"] and HostState(**values["before"])
            return cls(**{**values, "before": before})
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise EngineError(
                f"Another version of dindkit started the embedded engine: its {file} cannot be read.",
                "Stop it with that version, or restart this machine and delete the file.",
            ) from error

    def write(self, file: Path) -> None:
        """Write the record to `file` in one step."""
        with replacing(file) as out:
            out.write(json.dumps(asdict(self)).encode())
