"""Names of images in a registry, by the grammar of the OCI distribution specification."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dindkit.errors import DindkitError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9][a-zA-Z0-9.-]*)(?::[0-9]{1,5})?")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


@dataclass(frozen=True)
class Reference:
    """`host[:port]/repository:tag`."""

    host: str
    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}:{self.tag}"


def parse(text: str) -> Reference:
    """Read `HOST[:PORT]/REPOSITORY[:TAG]`; the tag defaults to `latest`, the host must be there.

    Raises DindkitError for everything else: a push never guesses its target.
    """
    host, slash, rest = text.partition("/")
    name, colon, tag = rest.partition(":")
    tag = tag if colon else "latest"
    named = slash and ("." in host or ":" in host or host == "localhost") and _HOST.fullmatch(host)
    if "@" in text:
        raise DindkitError(f"{text} holds a digest, which a push computes itself.", "Give a tag instead.")
    if not named:
        raise DindkitError(f"{text} names no registry.", "Give it as HOST/REPOSITORY:TAG.")
    if not _REPOSITORY.fullmatch(name) or not _TAG.fullmatch(tag) or len(name) > 255:
        raise DindkitError(
            f"{text} is not a valid image name.", "Give it as HOST/REPOSITORY:TAG, in lower case."
        )
    return Reference(host, name, tag)
