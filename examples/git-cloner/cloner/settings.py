"""What an operator can set, by environment variable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The service's settings; the defaults are those of `compose.yaml`."""

    #: `CLONER_IMAGE`: the image that has git.
    image: str = "dindkit/git:trixie"
    #: `CLONER_FOLDER`: lies at the same path here and in the Docker daemon.
    folder: Path = Path("/clones")
    #: `CLONER_SECONDS`: how long one clone may take.
    seconds: int = 60
    #: `CLONER_BYTES`: how much disk one clone may take, history included.
    size: int = 500_000_000
    #: `CLONER_HOSTS`, separated by commas: the only hosts to clone from; none given: any.
    hosts: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the variables; raises ValueError where one that should be a number is none."""
        get = os.environ.get
        return cls(
            image=get("CLONER_IMAGE", cls.image),
            folder=Path(get("CLONER_FOLDER", cls.folder)),
            seconds=int(get("CLONER_SECONDS", cls.seconds)),
            size=int(get("CLONER_BYTES", cls.size)),
            hosts=frozenset(filter(None, get("CLONER_HOSTS", "").split(","))),
        )
