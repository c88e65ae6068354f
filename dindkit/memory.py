"""A failure that every command would meet anew, remembered for a while."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from dindkit.files import replacing

#: Seconds.
SPAN = 3600


@dataclass(frozen=True)
class Memory:
    """Why something could not be done, in the file `path`, for an hour."""

    path: Path

    def recall(self) -> str | None:
        """Return the reason, or None where there is none of the last hour."""
        try:
            recent = 0 <= time.time() - self.path.stat().st_mtime < SPAN
            return self.path.read_text("utf-8") if recent else None
        except FileNotFoundError:
            return None

    def keep(self, why: str) -> None:
        """Remember the reason from now on."""
        with replacing(self.path) as file:
            file.write(why.encode())
