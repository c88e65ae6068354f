"""KILL, TERM and INT at three moments of each verb: the host is as before, and the next run is right."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dindkit.image.build_options import BuildOptions
from dindkit.image.seal import seal
from dindkit.progress import Progress
from tests.faults import host
from tests.faults.run import SIGNALS, Ended, Running, gone
from tests.support import registry
from tests.support.archive import KeyRing
from tests.support.local_project import LocalProject
from tests.support.tiny_project import tiny_project

#: They compare all links and rules of this network, where others must not come and go meanwhile.
pytestmark = pytest.mark.alone

#: Parts of the time that a whole run takes.
MOMENTS = (0.15, 0.45, 0.8)


@dataclass
class Place:
    """A project on disk, and copies of it from which runs begin."""

    local_project: LocalProject
    folder: Path
    registry: registry.Registry

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def watched(self) -> tuple[Path, Path, Path]:
        return self.local_project.project.root, self.temporary, self.folder / "results"

    def keep(self, name: str) -> None:
        shutil.copytree(self.local_project.project.root, self.folder / "kept" / name, symlinks=True)

    def begin(self, name: str) -> None:
        """Put the project back to what was kept, with nothing beside it."""
        shutil.rmtree(self.local_project.project.root)
        shutil.copytree(self.folder / "kept" / name, self.local_project.project.root, symlinks=True)
        for path in (self.temporary, self.folder / "results"):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()

    def run(self, words: list[str]) -> Ended:
        return Running(self.local_project.project, self.temporary, words).wait()

    def see(self, mark: str = "none") -> set[str]:
        return host.snapshot(self.watched, mark)


@pytest.fixture(scope="module")
def place(key_ring: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("faults")
    with tiny_project(folder, key_ring) as local_project, registry.serve(folder / "registry") as served:
        made = Place(local_project, folder, served)
        made.temporary.mkdir()
        made.keep("locked")
        seal(local_project.project, BuildOptions(image="app"), Progress(local_project.said))
        local_project.build()
        made.keep("built")
        local_project.archive.add_deb(
            "greeter", "2.0", files={"usr/bin/greet": "#!/bin/sh\necho hello again\n"}
        )
        local_project.publish()
        yield made


@dataclass(frozen=True)
class Verb:
    """A command line, and what it starts from; `{}` stands for what only a run knows."""

    words: tuple[str, ...]
    kept: str
    #: What differs between two whole runs.
    blur: Callable[[str], str] = str

    def line(self, place: Place) -> list[str]:
        return [
            word.format(results=place.folder / "results", registry=place.registry.host) for word in self.words
        ]


VERBS = {
    "build": Verb(("build", "--image", "app", "--output", "{results}/app.tar"), "locked"),
    "lock": Verb(("lock", "--image", "app"), "built"),
    "verify": Verb(("verify", "--recipe", "app"), "built"),
    "audit": Verb(("audit", "--image", "app", "--html", "{results}/page.html"), "built"),
    "sbom": Verb(("sbom", "--image", "app", "--output", "{results}/sbom.json"), "built"),
    "push": Verb(("push", "{registry}/team/app:1", "--image", "app"), "built"),
    "clean": Verb(("clean", "--downloads"), "built"),
}

INTERRUPTED = "interrupted; what was there before is unchanged."


@pytest.fixture(scope="module", params=VERBS)
def whole(request: pytest.FixtureRequest, place: Place) -> tuple[Verb, Ended, set[str]]:
    """Give a verb, how a whole run of it ends, and what there is afterwards."""
    verb = VERBS[request.param]
    place.begin(verb.kept)
    ended = place.run(verb.line(place))
    assert ended.code == 0, ended.said
    assert not gone(ended.mark)
    return verb, ended, place.see(ended.mark)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
def test_nothing_stays_of_what_a_signal_has_ended(
    place: Place, whole: tuple[Verb, Ended, set[str]], number: signal.Signals
) -> None:
    verb, right, after = whole
    for moment in MOMENTS:
        place.begin(verb.kept)
        before = place.see()
        ended = Running(place.local_project.project, place.temporary, verb.line(place)).end(
            number, moment * right.seconds
        )
        where = f"{number.name} at {moment} of {right.seconds:.2f} s"
        left = gone(ended.mark)
        assert not left, f"{where}: {left}"
        if number != signal.SIGKILL:
            # Before the verb has begun there is nobody to say a word, and nothing to be left.
            unsaid = ended.said == "" and ended.code in (1, -number)
            ended_well = ended.code == 0 or (ended.code == 1 and INTERRUPTED in ended.said) or unsaid
            assert ended_well, f"{where}: exit code {ended.code}, {ended.said}"
            extra = place.see(ended.mark) - before - after
            assert not extra, f"{where}: left {sorted(extra)}"
        again = place.run(verb.line(place))
        assert again.code == 0, f"{where}, and then: {again.said}"
        assert again.result == right.result, where
        assert place.see(again.mark) == after, f"{where}, and then: {sorted(place.see(again.mark) ^ after)}"
        assert not re.search(r"Traceback|internal error", ended.said + again.said), where
