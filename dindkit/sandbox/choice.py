"""Choose the sandbox of a build: namespaces of this host; else a container; else, for some, a chroot."""

from __future__ import annotations

from collections.abc import Callable

from dindkit.errors import ToolMissingError
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.emulation import is_foreign
from dindkit.sandbox.interface import NoSandboxError, Sandbox, ScriptRun, Taken
from dindkit.sandbox.namespaces import Namespaces

#: A function that returns the sandbox on an engine, or None where no engine answers. tasks.py sets it,
#: because this package must not import dindkit.engine.
find_on_engine: Callable[[Project, Progress], Sandbox | None] | None = None
#: A function that returns the sandbox on the engine of the user's choice, for an architecture: as above.
on_builder: Callable[[str, str, Progress], Sandbox] | None = None


class DefaultSandbox:
    """Namespaces or, where this host can make none, a container on the engine that answers.

    Without an engine, root in a container without privileges gets a sandbox by chroot, and is told so.
    """

    def __init__(self, project: Project, progress: Progress, architecture: str = "") -> None:
        self._project, self._progress, self._architecture = project, progress, architecture

    def run(self, run: ScriptRun[Taken]) -> Taken:
        """See Sandbox."""
        here = Namespaces(self._project.state / "sandbox", self._architecture)
        try:
            return here.run(run)
        except (NoSandboxError, ToolMissingError):
            if is_foreign(self._architecture):
                raise
            other = find_on_engine(self._project, self._progress) if find_on_engine else None
            if other is None:
                from dindkit.sandbox import chroot  # its worker imports what hosts of other systems lack

                if not chroot.is_needed():
                    raise
                self._progress.note_once(chroot.ANNOUNCEMENT)
                other = chroot.Chroot(self._project.state / "sandbox")
        return other.run(run)
