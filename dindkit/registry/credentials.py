"""Read the credentials that `docker login` has stored."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dindkit import process
from dindkit.errors import DindkitError, ToolMissingError
from dindkit.files import read_bounded

#: Docker Hub has different names in references, as an API host and in the credentials file.
HUB = "docker.io"
#: Bytes of a client's config.json.
LARGEST_CONFIG = 16_000_000
_HUB_CREDENTIALS = f"https://index.{HUB}/v1/"


@dataclass(frozen=True)
class Credentials:
    """A user's name and password, or an identity token that stands for both."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


#: The name of a credential helper: a program in PATH, never a path.
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def config_file() -> Path:
    """Return the path of the configuration of Docker's client: in $DOCKER_CONFIG, by default in ~/.docker."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def find(host: str) -> Credentials | None:
    """Return what Docker's configuration holds for the registry `host`, or None where it holds nothing.

    The order is Docker's own: the credential helper of that host, then the credential store, then the
    entry in the file itself.

    Raises DindkitError where the configuration cannot be read or a helper fails.
    """
    config = _config()
    key = _HUB_CREDENTIALS if host == HUB else host
    helper = _table(config, "credHelpers").get(key) or config.get("credsStore")
    if helper:
        found = _from_helper(str(helper), key)
        if found:
            return found
    for name, entry in _table(config, "auths").items():
        if (name == key or _bare(name) == host) and isinstance(entry, dict):
            return _from_entry(name, entry)
    return None


def _config() -> dict[str, Any]:
    path = config_file()
    try:
        config = json.loads(read_bounded(path, LARGEST_CONFIG))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise DindkitError(f"{path} is not valid JSON: {error}.", "Repair it, or log in again.") from error
    return config if isinstance(config, dict) else {}


def _table(config: dict[str, Any], name: str) -> dict[str, Any]:
    table = config.get(name)
    return table if isinstance(table, dict) else {}


def _bare(name: str) -> str:
    """Return the host in a key as older clients wrote it (`https://host/v1/`)."""
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _from_entry(name: str, entry: dict[str, Any]) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials(identity_token=str(entry["identitytoken"]))
    if entry.get("username") and entry.get("password"):
        return Credentials(str(entry["username"]), str(entry["password"]))
    if not entry.get("auth"):
        return None  # an empty entry: a credential store holds the credentials
    try:
        user, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (ValueError, TypeError):
        colon = ""
    if not colon:
        raise DindkitError(
            f"The entry for {name} in {config_file()} is damaged.", f"Run: docker login {_bare(name)}"
        )
    return Credentials(user, password.rstrip("\0"))


def _from_helper(helper: str, key: str) -> Credentials | None:
    """Ask `docker-credential-HELPER get`: the key on its standard input, JSON on its standard output."""
    program = f"docker-credential-{helper}"
    if not _HELPER.fullmatch(helper):
        raise DindkitError(f"{config_file()} names the credential helper {helper!r}, which is no name.")
    try:
        done = process.run([program, "get"], input=key.encode(), check=False, timeout=60)
    except ToolMissingError as error:
        raise DindkitError(
            f"{program}, which {config_file()} names, is not installed.",
            f"Install it, or run: docker login {key}",
        ) from error
    said = (done.stdout + (done.stderr or b"")).decode(errors="replace")
    if done.returncode:
        if "not found" in said:
            return None  # how helpers say that they have nothing for this host
        raise DindkitError(f"{program} failed: {said.strip()[:200]}.", f"Run: docker login {key}")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DindkitError(
            f"{program} gave no credentials that can be read.", f"Run: docker login {key}"
        ) from error
    return Credentials(identity_token=secret) if user == "<token>" else Credentials(user, secret)
