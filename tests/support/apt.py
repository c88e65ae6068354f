"""The host's own apt-get, asked what it would install, in folders of its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

CONFIG = """
Dir "{folder}";
Dir::State::status "{folder}/status";
Dir::Etc::sourcelist "/dev/null";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "{user}";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
"""


class Apt:
    """apt with the entries `sources` (deb822), whose indexes it fetches at once."""

    def __init__(self, folder: Path, sources: str, architecture: str = "amd64") -> None:
        for part in ("etc/apt/sources.list.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
            (folder / part).mkdir(parents=True)
        (folder / "etc/apt/sources.list.d/test.sources").write_text(sources)
        self._status = folder / "status"
        self._status.touch()
        config = folder / "apt.conf"
        user = "root" if os.geteuid() == 0 else ""
        config.write_text(CONFIG.format(folder=folder, architecture=architecture, user=user))
        self._environment = {**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C"}
        self._run("update")

    def install(self, *names: str, above: Iterable[Mapping[str, str]] = ()) -> dict[str, str]:
        """Return version by name of what apt would install for `names`; empty where it refuses.

        `above` are the control fields of packages that are installed already.
        """
        there = [{**control, "Status": "install ok installed"} for control in above]
        self._status.write_text("\n".join(map(_stanza, there)))
        said = self._run("install", "--simulate", "--no-install-recommends", *names, check=False)
        return dict(re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+)", said, re.MULTILINE))

    def _run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["apt-get", "-q", *words], env=self._environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _stanza(control: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in control.items())
