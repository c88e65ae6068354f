"""Each command in README, CONTRIBUTING.md and docs/ is run: here, by the test that is named here, or never.

Those that are never run have the reason beside them. A command that is new on a page is in no table.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dindkit.engine.discover import Engine
from dindkit.project import Project
from tests.test_installed import copy_checkout

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:eval \"\$\()?(?:invoke|dindkit|scripts/invoke) -?-?[a-z][^`]*)`")

#: As on the page -> as it is run, in a copy of the checkout, one after the other, on this machine's engine.
RUN = {
    "scripts/invoke --list": "scripts/invoke --list",
    "scripts/invoke --help VERB": "scripts/invoke --help build",
    "invoke version": "invoke version",
    "invoke list": "invoke list",
    "invoke build": "invoke build",
    "invoke build --image base": "invoke build --image base",
    "invoke doctor": "invoke doctor || test $? -le 1",
    "invoke doctor --mount PATH": "invoke doctor --mount .",
    "scripts/invoke build --json --quiet | jq --raw-output .result.image_id": "",
}
#: The same, for what takes longer.
RUN_WITH_FULL = {
    "scripts/invoke build smoke": "",
    "invoke build --tag team/dind:1 --output dind.tar": "",
    "invoke build --output": "invoke build --output other.tar --image base",
    "invoke build --image devcontainer": "",
    "invoke audit": "invoke audit --image base",
    "invoke audit --html audit.html": "invoke audit --html audit.html --image base",
    "scripts/invoke audit --html audit.html": "invoke audit --html audit.html --image base",
    "scripts/picture_page.py audit.html docs/audit-page.png": "",
    "scripts/record_svg.py docs/first-command.svg -- scripts/invoke build smoke": "",
    "invoke audit --against main": "invoke audit --image base --against main",
    "invoke audit --against OLD": "invoke audit --image base --against other.tar",
    "invoke audit --updates": "invoke audit --image base --updates || test $? -eq 3",
    "scripts/invoke audit --updates --json > audit.json || jq .error.cause audit.json": "",
    "invoke verify": "invoke verify --recipe base",
    "invoke verify --image IMAGE": "invoke verify --recipe base --image dindkit/base:trixie",
    "invoke lock": "",
    "invoke lock --image NAME": "invoke lock --image git",
    "invoke lock --seal": "invoke lock --seal --image base",
    "invoke clean": "DINDKIT_STATE=$PWD/empty invoke clean",
    "invoke bench boot": "invoke bench boot --pairs 1",
    "dindkit init my-runner --parent dind --package make": "",
    "dindkit lock ./my-runner": "",
    "dindkit build ./my-runner": "",
}
FIVE_MINUTES = "test_installed.py::test_an_image_of_ones_own_from_an_empty_folder"
#: As on the page -> the test that runs it, or does the same with other names.
RUN_ELSEWHERE = {
    "dindkit init my-runner --parent dind --package make --package tree": FIVE_MINUTES,
    "dindkit lock ./my-runner --seal": FIVE_MINUTES,
    "dindkit build ./my-runner --frozen": FIVE_MINUTES,
    "env/bin/pip install ./dindkit": FIVE_MINUTES,
    "python3 -m venv env": FIVE_MINUTES,
    'export PATH="$PWD/env/bin:$PATH"': FIVE_MINUTES,
    "mkdir -p my-runner/rootfs/usr/local/bin": FIVE_MINUTES,
    r"""printf '#!/bin/sh\necho "hello from $(uname -n)"\n' >my-runner/rootfs/usr/local/bin/greet""": FIVE_MINUTES,  # noqa: E501
    "chmod +x my-runner/rootfs/usr/local/bin/greet": FIVE_MINUTES,
    "dindkit verify ./my-runner": "test_own_image.py::test_it_is_verified_and_reviewed",
    "dindkit push ./my-runner registry.example:5000/team/my-runner:trixie": (
        "test_own_image.py::test_it_is_run_and_pushed"
    ),
    "invoke push": "registry/test_push.py::test_a_built_image_is_pushed",
    "invoke push REGISTRY/dind:trixie": "registry/test_push.py::test_a_built_image_is_pushed",
    'eval "$(invoke engine.start)"': "embedded/test_lifecycle.py::test_what_it_prints_is_for_eval",
    "invoke engine.stop": "embedded/test_lifecycle.py::test_stop_leaves_the_host_as_it_was",
    "invoke cache.start URL": "tools/test_registry_cache.py::test_what_was_pulled_once_is_there",
    "invoke preload VOLUME --image IMAGE": "tools/test_registry_cache.py::test_a_preloaded_volume_has_its",
    "invoke shell": "tools/test_shell.py::test_commands_from_a_pipe",
    "invoke shell --folder FOLDER": "tools/test_shell.py::test_another_folder_and_another_image",
    "invoke smoke": "smoke/test_smoke.py::test_without_an_engine_the_image_is_booted_and_stopped",
    "invoke smoke --topology NAME": "smoke/test_smoke.py::test_topology",
    "invoke smoke --topology all": "smoke/test_smoke.py::test_all_leaves_out_what_must_be_asked_for_by_name",
    "invoke smoke --topology rootless": "smoke/test_smoke.py::test_topology",
    "invoke smoke --vm": "vm/test_smoke.py::test_three_levels_in_a_machine",
    "invoke smoke --arch arm64": "vm/test_smoke.py::test_three_levels_in_a_machine",
    "invoke engine.start --vm": "vm/test_smoke.py::test_an_engine_that_lasts_keeps_its_data",
    "invoke engine.start": "embedded/test_lifecycle.py::test_what_it_prints_is_for_eval",
    "invoke lock --kernel": "vm/test_kernel_lock.py::test_the_newest_kernel_is_locked_alone",
    "invoke lock --kernel --arch arm64": "vm/test_kernel_lock.py::test_the_newest_kernel_is_locked_alone",
    "invoke lock --seal --all": "image/test_seal.py::test_each_lock_gets_its_ids_and_what_cannot_run_here",
    "invoke doctor --json": "test_json_verbs.py::test_doctor_without_an_engine",
    "invoke verify --image": "image/test_rebuild.py::test_a_tampered_image_is_taken_apart",
    "invoke audit --against": "review/test_against.py::test_an_image_of_the_engine",
    "invoke smoke --nested-image debian:12-slim": "smoke/test_smoke.py::test_a_nested_image_of_the",
    "invoke test --faults": "faults/test_faults.py::test_nothing_stays_of_what_a_signal_has_ended",
    "invoke test --fuzz MINUTES": "fuzz/test_fuzz.py::test_hostile_input_is_taken_or_refused",
    "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt "
    "systempaths=unconfined --device /dev/net/tun dindkit/dind-rootless:trixie": (
        "engine/test_dind_rootless.py::test_without_privileges_a_nested_container_runs"
    ),
    "scripts/invoke --print-completion-script=fish | source": "test_completion.py::test_fish",
    "invoke bench build": "bench/test_build.py::test_the_table_has_medians_and_ratios_of_rounds",
}
THE_GATE = "it is the gate itself: .ci/run"
FORKY = "testing's files leave the mirrors within days; tests/support/suites.py locks them in a copy"
NEVER_RUN = {
    "scripts/invoke test": THE_GATE,
    "scripts/invoke test --quick": "the gate runs these tests, and all others",
    "invoke test --quick": "the gate runs these tests, and all others",
    "invoke test": THE_GATE,
    "scripts/invoke lint": THE_GATE,
    "invoke lint": THE_GATE,
    "invoke test --pytest tests/examples": THE_GATE,
    "invoke test --full": THE_GATE,
    'invoke test --pytest "tests/vm --full"': THE_GATE,
    "invoke bench boot --suite forky": FORKY,
    "invoke lock --suite forky": FORKY,
    "invoke lock --suite NAME": "there is no third suite that is pinned",
    "invoke lock --suite NAME --seal": "there is no third suite that is pinned",
    "scripts/invoke lock --engine docker-ce": "Docker's archive cannot be reached from everywhere",
    "invoke smoke --image docker:dind": "it is in a registry of others; tests/smoke has one of ours",
    "docker run -v work:/srv/work … daemon": "a pattern; tests/smoke proves it as the topology tcp",
    "docker run -v work:/srv/work … client": "a pattern; tests/smoke proves it as the topology tcp",
}


def commands(text: str) -> list[str]:
    """Return the commands of a page: each line of a block that is the shell's, and those within sentences."""
    blocks = "\n".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    lines = [re.sub(r"\s+# .*", "", line).strip() for line in blocks]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for line in lines if line] + [" ".join(found.split()) for found in INLINE.findall(prose)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_of_a_page_is_in_a_table(page: Path) -> None:
    tables = (RUN, RUN_WITH_FULL, RUN_ELSEWHERE, NEVER_RUN)
    for command in commands(page.read_text()):
        assert [command in table for table in tables].count(True) == 1, command


def test_each_command_of_a_table_is_on_a_page() -> None:
    said = {command for page in PAGES for command in commands(page.read_text())}
    assert {*RUN, *RUN_WITH_FULL, *RUN_ELSEWHERE, *NEVER_RUN} - said == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_looks_like_a_command_is_in_a_block_of_the_shell(page: Path) -> None:
    for tag, text in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        assert tag == "sh" or not re.match(r"(?:scripts/|invoke |dindkit |docker |python)", text), text


@pytest.mark.parametrize("command", sorted(RUN_ELSEWHERE))
def test_the_test_that_is_named_is_there(command: str) -> None:
    file, _, name = RUN_ELSEWHERE[command].partition("::")
    assert re.search(rf"^ *def {name}", (ROOT / "tests" / file).read_text(), re.MULTILINE)


def test_each_figure_of_the_comparison_names_what_measures_it() -> None:
    table = re.findall(
        r"^\| (.*) \|$", (ROOT / "README.md").read_text().partition("measured by |\n")[2], re.MULTILINE
    )
    rows = [row.split(" | ") for row in table]
    rows = rows[: next(at for at, row in enumerate(rows) if len(row) != 4)]
    assert len(rows) > 8
    for *_, measure in rows:
        word = measure.strip("`")
        assert word in RUN | RUN_WITH_FULL | RUN_ELSEWHERE or (ROOT / word).is_file(), measure


@dataclass(frozen=True)
class Copy:
    """A fresh copy of the checkout, in a git repository, with images and an engine that are there already."""

    folder: Path
    environment: dict[str, str]

    def run(self, command: str) -> None:
        script = f'invoke() {{ scripts/invoke "$@"; }}\ndindkit() {{ scripts/invoke "$@"; }}\n{command}\n'
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def copy(engine: Engine, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    folder = copy_checkout(tmp_path_factory.mktemp("a folder") / "dindkit")
    shutil.copytree(ROOT / "docs", folder / "folder")
    (folder / "folder/index.md").write_text("here")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "--quiet", "--initial-branch=main"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    # The engine sees this folder; it may be in a mount namespace that is older than others.
    environment = {**os.environ, "DINDKIT_STATE": str(project.state), "DOCKER_HOST": engine.host}
    yield Copy(folder, environment)
    subprocess.run(["git", "status", "--short"], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("command", RUN)
def test_it_runs(copy: Copy, command: str) -> None:
    copy.run(RUN[command] or command)


@pytest.mark.full
@pytest.mark.parametrize("command", RUN_WITH_FULL)
def test_it_runs_with_time(copy: Copy, command: str) -> None:
    copy.run(RUN_WITH_FULL[command] or command)
