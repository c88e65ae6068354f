"""Names of images as people write them: `dind`, `team/dind:1`, `registry.example:5000/dind:1`.

The grammar is the OCI distribution specification's; what a short name stands for is Docker's rule
(https://github.com/distribution/reference/blob/v0.6.0/normalize.go).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dindkit.errors import DindkitError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
HOST = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9][a-zA-Z0-9.-]*)(?::[0-9]{1,5})?")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
#: Characters of a repository's name, its host included.
LONGEST = 255

#: The registry of names without one, and the folder in it of names without a folder.
DEFAULT_HOST, DEFAULT_FOLDER = "docker.io", "library"
#: Engines take it for an image's id.
_LIKE_AN_ID = re.compile(r"[0-9a-f]{64}")

HOW = "Give it as NAME, NAME:TAG or HOST/NAME:TAG, in lower case."


@dataclass(frozen=True)
class ImageName:
    """A name with all its parts."""

    host: str
    repository: str
    tag: str

    def __str__(self) -> str:
        """Return the name as engines show it: without what every name has by default, but for the tag."""
        if self.host != DEFAULT_HOST:
            return self.full
        folder, _, rest = self.repository.partition("/")
        short = rest if folder == DEFAULT_FOLDER and "/" not in rest else self.repository
        return f"{short}:{self.tag}"

    @property
    def full(self) -> str:
        """The name with its registry and its folder."""
        return f"{self.host}/{self.repository}:{self.tag}"


def parse(text: str) -> ImageName:
    """Read `[HOST[:PORT]/]NAME[:TAG]`; the tag defaults to `latest`. Raises DindkitError."""
    if not text:
        raise DindkitError("The name of an image is empty.", HOW)
    if "@" in text:
        raise DindkitError(f"{text!r} holds a digest, which nobody can choose.", HOW)
    host, slash, rest = text.partition("/")
    if not slash or not _is_host(host):
        host, rest = DEFAULT_HOST, text
    if host == f"index.{DEFAULT_HOST}":
        host = DEFAULT_HOST
    name, colon, tag = rest.partition(":")
    if host == DEFAULT_HOST and "/" not in name:
        if _LIKE_AN_ID.fullmatch(name):
            raise DindkitError(f"{text!r} looks like the id of an image, and can be no name.", HOW)
        name = f"{DEFAULT_FOLDER}/{name}"
    tag = tag if colon else "latest"
    if not (HOST.fullmatch(host) and REPOSITORY.fullmatch(name) and TAG.fullmatch(tag)):
        raise DindkitError(f"{text!r} is no name of an image.", HOW)
    if len(f"{host}/{name}") > LONGEST:
        raise DindkitError(f"A name of an image has at most {LONGEST} characters: {text!r} has more.", HOW)
    return ImageName(host, name, tag)


def _is_host(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost" or text != text.lower()
