"""Where the engine of `engine.start --vm` listens: in a file of the state folder, which its start writes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dindkit.errors import EngineError
from dindkit.files import open_regular, replacing
from dindkit.project import Project

#: Bytes of the file.
LARGEST = 100_000


@dataclass(frozen=True)
class Record:
    """A virtual machine that runs: its process (an owner.Owner as text), and how its engine is reached."""

    process: str
    host: str

    def write(self, file: Path) -> None:
        """Write the record to `file` in one step."""
        with replacing(file) as out:
            out.write(json.dumps(asdict(self)).encode())


def folder(project: Project) -> Path:
    """Return the folder of the machine, whether it is there or not."""
    return project.state / "machine"


def file(project: Project) -> Path:
    """Return the file with the record, whether it is there or not."""
    return folder(project) / "record.json"


def certificates(project: Project) -> Path:
    """Return the folder for DOCKER_CERT_PATH."""
    return folder(project) / "certificates"


def read(project: Project) -> Record | None:
    """Return the record, or None where there is none. Raises EngineError for another version's."""
    try:
        with open_regular(file(project)) as opened:
            found = Record(**json.loads(opened.read(LARGEST)))
        if not isinstance(found.process, str) or not isinstance(found.host, str):
            raise TypeError
    except FileNotFoundError:
        return None
    except (TypeError, ValueError, RecursionError) as error:
        raise EngineError(
            f"Another version of dindkit started a virtual machine: its {file(project)} cannot be read.",
            "Stop it with that version, or end its QEMU and delete the file.",
        ) from error
    return found
