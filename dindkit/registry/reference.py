"""Names of images in a registry, by the grammar of the OCI distribution specification."""

from __future__ import annotations

from dataclasses import dataclass

from dindkit.errors import DindkitError
from dindkit.formats.image_name import HOST, LONGEST, REPOSITORY, TAG


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
    named = slash and ("." in host or ":" in host or host == "localhost") and HOST.fullmatch(host)
    if "@" in text:
        raise DindkitError(f"{text} holds a digest, which a push computes itself.", "Give a tag instead.")
    if not named:
        raise DindkitError(f"{text} names no registry.", "Give it as HOST/REPOSITORY:TAG.")
    if not REPOSITORY.fullmatch(name) or not TAG.fullmatch(tag) or len(name) > LONGEST:
        raise DindkitError(
            f"{text} is not a valid image name.", "Give it as HOST/REPOSITORY:TAG, in lower case."
        )
    return Reference(host, name, tag)
