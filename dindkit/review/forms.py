"""The forms of what `invoke audit` has found: text, a page, and the result of a JSON document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from dindkit.files import output_file
from dindkit.progress import Progress

Found = TypeVar("Found")


@dataclass(frozen=True)
class Forms(Generic[Found]):
    """How a dataclass is shown: what it is called with its verb (`the audit is`), as text, and as a page."""

    called: str
    text: Callable[[Found, TextIO], None]
    page: Callable[[Found], str]

    def show(
        self, made: Found, progress: Progress, out: TextIO, found: dict[str, Any] | None, html: Path | None
    ) -> None:
        """Print `made` on `out`, or put it into `found`; with `html` write a page instead of the text."""
        if html:
            with output_file(html) as file:
                file.write(self.page(made).encode())
            progress.note(f"{self.called} in {html}")
        if found is not None:
            found |= asdict(made)  # type: ignore[call-overload] # of every dataclass
        elif not html:
            self.text(made, out)
