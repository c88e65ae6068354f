"""What changed between two images as text, for a terminal or a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from rich.text import Text

from dindkit.printing import visible
from dindkit.progress import size
from dindkit.review.changes import Change, Changes, FileChange, Side
from dindkit.review.text import Tables, console_for, print_tables

UNKNOWN = "unknown"


def show(found: Changes, out: TextIO) -> None:
    """Print the changes on `out`."""
    console = console_for(out)
    title = (visible(f"{found.old.name} → {found.new.name}"), "bold")
    console.print(Text.assemble(title), soft_wrap=True)
    print_tables(console, _tables(found))


def difference(old: int | None, new: int | None) -> str:
    """Return what was added or taken away, in bytes for people: `+1.2 MB`."""
    if old is None or new is None:
        return UNKNOWN
    return f"{'+' if new >= old else '-'}{size(abs(new - old))}"


def _tables(found: Changes) -> Tables:
    yield (
        "Images",
        ("", "id", "packages", "files", "unpacked", "compressed"),
        map(_side, (found.old, found.new)),
    )
    yield (
        "Packages",
        ("", "package", "old", "new", "unpacked", "why"),
        (
            (
                one.change,
                one.name,
                one.old,
                one.new,
                difference(one.old_size or 0, one.new_size or 0),
                one.why,
            )
            for one in found.packages
        ),
    )
    if found.archives is not None:
        yield _named("Archives: InRelease files behind the locks", found.archives)
    for title, changes in (
        ("Set-uid, set-gid, capabilities, writable by everybody", found.privileges),
        ("Ports", found.ports),
        ("Users", found.users),
        ("Configuration", found.config),
    ):
        if changes is not None:
            yield _named(title, changes)
    if found.files is not None:
        yield from _files(found.files)
    else:
        yield "Not compared: files, privileges, ports, users, configuration", (), ()


def _side(one: Side) -> tuple[object, ...]:
    sizes = (UNKNOWN if value is None else size(value) for value in (one.unpacked, one.compressed))
    return one.name, one.id, one.packages, UNKNOWN if one.files is None else one.files, *sizes


def _named(title: str, changes: Sequence[Change]) -> tuple[str, tuple[str, ...], list[tuple[object, ...]]]:
    return title, ("", "what", "old", "new"), [(one.change, one.name, one.old, one.new) for one in changes]


def _files(files: Sequence[FileChange]) -> Tables:
    yield (
        "Files that changed, though no package of theirs did",
        ("", "path", "what", "package"),
        ((one.change, one.path, one.how, one.package or "none") for one in files if not one.expected),
    )
    counts = Counter((one.package or "dpkg's database", one.change) for one in files if one.expected)
    yield (
        "Files of packages that changed (each of them: --json, --html)",
        ("files", "", "package"),
        ((count, change, package) for (package, change), count in sorted(counts.items())),
    )
