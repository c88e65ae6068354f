"""The pinned OpenPGP keys, the archives each may sign, and the check of a clear-signed file against them."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gnupg

from dindkit import owner, process
from dindkit.errors import RecipeError, TrustError, did_you_mean
from dindkit.files import read_bounded

#: Bytes of a key file, and of archives.toml.
LARGEST_KEY = 1_000_000

#: The file that says what is trusted; the keys lie beside it.
ARCHIVES = "archives.toml"
#: As locks name it.
ARCHIVE_NAME = re.compile(r"[a-z0-9-]+")
ARCHIVE_KEYS = ("uris", "snapshot", "suites", "components", "keys", "on_request")

#: A file as RFC 9580 §7 frames it, with nothing before, between or after its two parts.
CLEARSIGNED = re.compile(
    rb"-----BEGIN PGP SIGNED MESSAGE-----\n(?:Hash: [A-Z0-9, ]+\n)*\n"
    rb"(?:(?!-----).*\n)*"
    rb"-----BEGIN PGP SIGNATURE-----\n(?:(?!-----).*\n)*-----END PGP SIGNATURE-----\n?"
)

#: SHA-256, SHA-384 and SHA-512 by their numbers in RFC 9580 §9.5.
STRONG_DIGESTS = {"8", "9", "10"}

#: Content of a key file -> the fingerprints in it, which gpg reads once in a process.
_FINGERPRINTS: dict[bytes, list[str]] = {}

#: No agent is started, so no process outlives the check.
OPTIONS = ["--no-options", "--no-autostart", "--no-auto-key-retrieve"]


@dataclass(frozen=True)
class Key:
    """A vendored file with one primary key, its full fingerprint, and how it got here."""

    file: Path
    fingerprint: str
    provenance: str


@dataclass(frozen=True)
class Archive:
    """An apt archive: where it is, what is taken from it, and the only keys that may sign it."""

    name: str
    uris: tuple[str, ...]
    #: Address of the archive at an earlier time, with `{time}` in it; empty where there is none.
    snapshot: str
    #: Suite of ours (`trixie`) -> suites of the archive (`trixie`, `trixie-updates`).
    suites: Mapping[str, tuple[str, ...]]
    components: tuple[str, ...]
    keys: tuple[Key, ...]
    #: Its packages are used only where a recipe names this archive.
    on_request: bool = False

    def sources(self, suite: str, signed_by: str) -> str:
        """Render a deb822 entry of sources.list(5) for our `suite`; `signed_by` is a path in the image."""
        return (
            "Types: deb\n"
            f"URIs: {self.uris[0]}\n"
            f"Suites: {' '.join(self.suites[suite])}\n"
            f"Components: {' '.join(self.components)}\n"
            f"Signed-By: {signed_by}\n"
        )


@dataclass(frozen=True)
class Signed:
    """The signed text as gpg gave it back, and the pinned primary key that signed it."""

    text: bytes
    fingerprint: str


@dataclass(frozen=True)
class Keys:
    """All archives by name."""

    archives: Mapping[str, Archive]

    def archive(self, name: str) -> Archive:
        """Return the archive called `name`; raises RecipeError where keys/ knows none."""
        if name not in self.archives:
            raise RecipeError(
                f"No archive is called {name}; keys/archives.toml has {', '.join(sorted(self.archives))}."
            )
        return self.archives[name]

    def verify(self, data: bytes, archive: Archive, what: str = "") -> Signed:
        """Return the text of the clear-signed `data` that a key pinned for `archive` has signed.

        There may be several signatures, for example while an archive changes its keys: one good signature by
        a pinned key is enough. Raises TrustError; `what` names the file in its message.
        """
        where = what or f"InRelease of {archive.name}"
        if not CLEARSIGNED.fullmatch(data):
            raise TrustError(
                f"{where} is not one clear-signed text with nothing around it.",
                "Someone on the way may have changed it: try again later, or from another network.",
            )
        with _gpg() as gpg:
            for key in archive.keys:
                gpg.import_keys(read_bounded(key.file, LARGEST_KEY))
            result = gpg.decrypt(data)
        pinned = {key.fingerprint for key in archive.keys}
        signers = [_signer(statuses, pinned) for statuses in _by_signature(result.statuses)]
        if not any(signers):
            raise TrustError(
                f"{where} is not signed by a key pinned for it: {_problem(result.statuses)} "
                f"(pinned: {', '.join(sorted(pinned))}).",
                "Do not use it; if the archive has a new key, docs/security.md says how to refresh keys/.",
            )
        return Signed(bytes(result.data), next(filter(None, signers)))


@dataclass(frozen=True)
class _Table:
    """The content of one archives.toml."""

    path: Path
    keys: Mapping[str, Key]
    #: Archive -> its entry.
    archives: Mapping[str, Mapping[str, Any]]


def load(folder: Path, *others: Path) -> Keys:
    """Read archives.toml in `folder`, and in those of `others` that there are.

    Every key file is checked against its pinned fingerprint. What `folder` says cannot be changed by others:
    they only add archives and keys. An archive of theirs may name keys of any folder before it. Raises
    TrustError, naming both fingerprints, where a file holds another key than the pinned one, or where
    another folder names an archive or a key again, and RecipeError where archives.toml itself makes no sense.
    """
    paths = [other / ARCHIVES for other in others]
    tables = [_read(folder / ARCHIVES), *(_read(path) for path in paths if os.path.lexists(path))]
    keys: dict[str, Key] = {}
    archives: dict[str, Archive] = {}
    owner_of: dict[tuple[str, str], Path] = {}
    for table in tables:
        for kind, name in [
            *(("key", one) for one in table.keys),
            *(("archive", one) for one in table.archives),
        ]:
            if (kind, name) in owner_of:
                raise TrustError(
                    f"{table.path} says anew what the {kind} {name} is, which {owner_of[kind, name]} says.",
                    "What is pinned there stays: give yours another name.",
                )
            owner_of[kind, name] = table.path
        keys |= table.keys
        archives |= {name: _archive(table.path, name, entry, keys) for name, entry in table.archives.items()}
    _check_fingerprints(keys.values())
    return Keys(archives)


def _read(path: Path) -> _Table:
    try:
        table = tomllib.loads(read_bounded(path, LARGEST_KEY).decode())
        _known(path, "", table, ("archives", "keys"))
        keys = {}
        for name, entry in table.get("keys", {}).items():
            _known(path, f"keys.{name}.", entry, ("fingerprint", "provenance"))
            keys[name] = Key(_beside(path, name), entry["fingerprint"], entry["provenance"].strip())
        for name, entry in table["archives"].items():
            if not ARCHIVE_NAME.fullmatch(name):
                raise RecipeError(f"{path}: {name!r} is no name for an archive.", "Use a-z, 0-9 and -.")
            _known(path, f"archives.{name}.", entry, ARCHIVE_KEYS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(path, error) from None
    return _Table(path, keys, table["archives"])


def _unreadable(path: Path, error: Exception) -> RecipeError:
    said = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else repr(error)
    return RecipeError(f"{path} cannot be read: {said}.", "Restore it with git, or correct it.")


def _known(path: Path, where: str, table: Mapping[str, Any], names: Collection[str]) -> None:
    for key in table:
        if key not in names:
            hint = did_you_mean(key, names) or f"Known are: {', '.join(names)}."
            raise RecipeError(f"{path}: {where}{key} is not a key of archives.toml.", hint.strip())


def _beside(path: Path, name: str) -> Path:
    if Path(name).name != name:
        raise RecipeError(f"{path}: {name!r} is not the name of a file beside it.", "Put the key there.")
    return path.with_name(name)


def _archive(path: Path, name: str, entry: Mapping[str, Any], keys: Mapping[str, Key]) -> Archive:
    try:
        for uri in (*entry["uris"], entry["snapshot"]):
            if (
                "@" in urlsplit(uri).netloc
            ):  # the sources and the bill of materials of every image would show it
                raise RecipeError(
                    f"keys/archives.toml has a password in an address of {name}.",
                    "Keep it in ~/.netrc instead.",
                )
        return Archive(
            name=name,
            uris=tuple(uri.rstrip("/") for uri in entry["uris"]),
            snapshot=entry["snapshot"].rstrip("/"),
            suites={suite: tuple(theirs) for suite, theirs in entry["suites"].items()},
            components=tuple(entry["components"]),
            keys=tuple(keys[file] for file in entry["keys"]),
            on_request=entry.get("on_request", False),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from None


def _check_fingerprints(keys: Collection[Key]) -> None:
    for key in keys:
        if not key.file.is_file():
            raise TrustError(f"The key file {key.file} is missing.", "Restore it with git.")
    contents = [read_bounded(key.file, LARGEST_KEY) for key in keys]
    unknown = [content for content in contents if content not in _FINGERPRINTS]
    if unknown:
        with _gpg() as gpg:
            for content in unknown:
                _FINGERPRINTS[content] = [entry["fingerprint"] for entry in gpg.scan_keys_mem(content)]
    for key, content in zip(keys, contents, strict=True):
        if _FINGERPRINTS[content] != [key.fingerprint]:
            found = ", ".join(_FINGERPRINTS[content]) or "none"
            raise TrustError(
                f"{key.file} holds the key {found}, but {key.fingerprint} is pinned for it.",
                "Restore the file with git, or see docs/security.md on how to refresh a key.",
            )


class _Recorded(gnupg.Crypt):  # type: ignore[misc]
    """The result of a gpg run, with every status line in order."""

    def __init__(self, gpg: gnupg.GPG) -> None:
        super().__init__(gpg)
        self.statuses: list[tuple[str, list[str]]] = []

    def handle_status(self, key: str, value: str) -> None:
        self.statuses.append((key, value.split()))
        super().handle_status(key, value)


class _Gpg(gnupg.GPG):  # type: ignore[misc]
    """Runs gpg, and ends its processes: after an interrupt they would go on writing to their home."""

    def __init__(self, **options: Any) -> None:
        self._started: list[subprocess.Popen[bytes]] = []
        super().__init__(**options)

    def _open_subprocess(self, args: list[str], passphrase: bool = False) -> subprocess.Popen[bytes]:
        started: subprocess.Popen[bytes] = super()._open_subprocess(args, passphrase)
        self._started.append(started)
        return started

    def end(self) -> None:
        """End the processes that still run, and wait for them."""
        for one in self._started:
            one.kill()
            one.wait()


@contextmanager
def _gpg() -> Iterator[gnupg.GPG]:
    """Yield gpg with a new, private home folder, which is deleted afterwards."""
    binary = process.require("gpg")
    with owner.workspace(Path(tempfile.gettempdir()), "dindkit-keys", 0o700) as home:
        gpg = _Gpg(gpgbinary=binary, gnupghome=str(home), options=OPTIONS)
        gpg.result_map = {**gpg.result_map, "crypt": _Recorded}
        atexit.register(gpg.end)  # runs before its home is deleted: that was registered earlier
        try:
            yield gpg
        finally:
            atexit.unregister(gpg.end)
            gpg.end()


def _signer(statuses: list[tuple[str, list[str]]], pinned: set[str]) -> str:
    """Return the pinned primary key that made one good signature, or an empty string.

    `statuses` is what gpg says of that one signature (GnuPG's doc/DETAILS). For expired or revoked keys and
    for expired signatures gpg prints other keywords instead of GOODSIG.
    """
    said = dict(statuses)
    valid = said.get("VALIDSIG", [])
    if "GOODSIG" not in said or len(valid) < 10:
        return ""
    digest, primary = valid[7], valid[9]
    return primary if primary in pinned and digest in STRONG_DIGESTS else ""


def _by_signature(statuses: list[tuple[str, list[str]]]) -> list[list[tuple[str, list[str]]]]:
    groups: list[list[tuple[str, list[str]]]] = []
    for status in statuses:
        if status[0] == "NEWSIG":
            groups.append([])
        elif groups:
            groups[-1].append(status)
    return groups


#: What is wrong with a signature, by gpg's keyword; the worst is named first.
PROBLEMS = {
    "BADSIG": "the text does not match the signature of {}",
    "REVKEYSIG": "the key {} is revoked",
    "EXPKEYSIG": "the key {} has expired",
    "EXPSIG": "the signature of {} has expired",
    "GOODSIG": "the signature of {} uses a weak digest",
    "ERRSIG": "it carries a signature of {}",
}


def _problem(statuses: list[tuple[str, list[str]]]) -> str:
    for keyword, sentence in PROBLEMS.items():
        signers = [words[0] for found, words in statuses if found == keyword and words]
        if signers:
            return sentence.format(" and ".join(signers))
    return "it carries no signature that gpg can read"
