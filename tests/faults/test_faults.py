"""KILL, TERM and INT at moments of each verb: the host is as before, and the next run is right."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dindkit.formats import layer
from dindkit.image.build_options import BuildOptions
from dindkit.image.seal import seal
from dindkit.progress import Progress
from tests.faults.check import Step, check, run_whole
from tests.faults.run import SIGNALS, Ended, Running
from tests.support import host, registry
from tests.support.archive import KeyRing
from tests.support.local_project import LocalProject
from tests.support.tiny_project import tiny_project

#: Parts of the time that a whole run takes.
MOMENTS = (0.15, 0.45, 0.8)
#: Each signal at each moment; without --full each of them once.
FAULTS = [
    pytest.param(number, moment, marks=[] if at == of else pytest.mark.full, id=f"{number.name}-{moment}")
    for of, number in enumerate(SIGNALS)
    for at, moment in enumerate(MOMENTS)
]


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

    def begin(self, kept: str) -> None:
        """Put the project back to what was kept, with nothing beside it."""
        shutil.rmtree(self.local_project.project.root)
        shutil.copytree(self.folder / "kept" / kept, self.local_project.project.root, symlinks=True)
        for path in (self.temporary, self.folder / "results"):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()

    def start(self, words: tuple[str, ...]) -> Running:
        results, host_name = self.folder / "results", self.registry.host
        line = [word.format(results=results, registry=host_name) for word in words]
        return Running(self.local_project.project, self.temporary, line)

    def see(self, mark: str = "none") -> set[str]:
        return host.snapshot(self.watched, mark)


@pytest.fixture(scope="module")
def place(key_ring: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("faults")
    with (
        pytest.MonkeyPatch.context() as patch,
        host.own_network(),
        tiny_project(folder, key_ring) as local_project,
        registry.serve(folder / "registry") as served,
    ):
        made = Place(local_project, folder, served)
        made.temporary.mkdir()
        patch.setattr(layer, "LEVEL", 1)  # each run compresses anew, and the level is no matter of signals
        made.keep("locked")
        seal(local_project.project, BuildOptions(image="app"), Progress(local_project.said))
        local_project.build()
        made.keep("built")
        local_project.archive.add_deb(
            "greeter", "2.0", files={"usr/bin/greet": "#!/bin/sh\necho hello again\n"}
        )
        local_project.publish()
        yield made


VERBS = {
    "build": Step(("build", "--image", "app", "--output", "{results}/app.tar"), "locked"),
    "lock": Step(("lock", "--image", "app"), "built", tells_changes=True),
    "verify": Step(("verify", "--recipe", "app"), "built"),
    "audit": Step(("audit", "--image", "app", "--html", "{results}/page.html"), "built"),
    "sbom": Step(("sbom", "--image", "app", "--output", "{results}/sbom.json"), "built"),
    "push": Step(("push", "{registry}/team/app:1", "--image", "app"), "built"),
    "clean": Step(("clean", "--downloads"), "built"),
}


@pytest.fixture(scope="module", params=VERBS)
def whole(request: pytest.FixtureRequest, place: Place) -> tuple[Step, Ended, set[str]]:
    """Give a verb, how a whole run of it ends, and what there is afterwards."""
    verb = VERBS[request.param]
    place.begin(verb.kept)
    ended = run_whole(place, verb)
    return verb, ended, place.see(ended.mark)


@pytest.mark.parametrize(("number", "moment"), FAULTS)
def test_nothing_stays_of_what_a_signal_has_ended(
    place: Place, whole: tuple[Step, Ended, set[str]], number: signal.Signals, moment: float
) -> None:
    check(place, *whole, number, moment)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes links and rules")
def test_what_others_do_to_the_network_is_not_seen(tmp_path: Path) -> None:
    with Path("/proc/thread-self/ns/net").open() as outside:
        outer = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{outside.fileno()}"]
        name = f"fault{os.getpid() % 1000000}"
        with host.own_network():
            before = host.snapshot([tmp_path], "none")
            subprocess.run([*outer, "ip", "link", "add", name, "type", "veth"], check=True)
            try:
                assert host.snapshot([tmp_path], "none") == before
            finally:
                subprocess.run([*outer, "ip", "link", "del", name], check=True)
            subprocess.run(["ip", "link", "add", name, "type", "veth"], check=True)
            assert f"link: {name}" in host.snapshot([tmp_path], "none") - before
        assert (
            Path("/proc/thread-self/ns/net").readlink()
            == Path(f"/proc/self/fd/{outside.fileno()}").readlink()
        )
