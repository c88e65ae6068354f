"""The audit as text, for a terminal or a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dindkit.printing import shortened, visible
from dindkit.progress import size
from dindkit.review.licences import licence_counts
from dindkit.review.report import Report

#: Columns where the output is no terminal: wide enough for a SHA-256 beside a path.
_WIDE = 220
#: Rows of a table that are printed. Nobody reads more, and laying out 300,000 takes minutes.
MOST_ROWS = 5000
Rows = Iterable[tuple[object, ...]]
#: Title, heads of the columns, rows.
Tables = Iterable[tuple[str, tuple[str, ...], Rows]]
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def show(report: Report, out: TextIO) -> None:
    """Print the report on `out`."""
    console = console_for(out)
    image = report.image
    console.print(Text.assemble((visible(image.reference), "bold"), f"  {visible(image.id)}"), soft_wrap=True)
    facts = (
        f"Debian {image.suite}, {image.architecture}, engine {image.engine or 'none'}, of {image.created}; "
        f"{len(report.packages)} packages, {size(image.size)} compressed, {size(image.unpacked)} unpacked; "
    )
    mark = ("as the lock says", "") if image.from_lock else ("not from the lock", "bold red")
    console.print(Text.assemble(visible(facts), mark), soft_wrap=True)
    print_tables(console, _tables(report))


def console_for(out: TextIO) -> Console:
    """Return a console that prints plain text, wide where `out` is no terminal."""
    return Console(
        file=out, highlight=False, markup=False, emoji=False, width=None if out.isatty() else _WIDE
    )


def print_tables(console: Console, tables: Tables) -> None:
    """Print each table under its title."""
    for title, head, rows in tables:
        console.print(Text.assemble("\n", (title, "bold")))
        rows = list(rows)
        if not rows:
            console.print("none")
            continue
        table = Table(*head, box=None, pad_edge=False, header_style="dim")
        for row in rows[:MOST_ROWS]:
            table.add_row(*(_cell(value, short=console.width < _WIDE) for value in row))
        console.print(table)
        if len(rows) > MOST_ROWS:
            console.print(f"… and {len(rows) - MOST_ROWS} more: --json, --html")


def _cell(value: object, short: bool) -> Text:
    """Return a cell of plain text: no path is markup, and no hash fills a terminal."""
    text = visible(shortened(str(value)))
    return Text(_HASH.sub(r"\1…", text) if short else text)


def _tables(report: Report) -> Tables:
    if report.now:
        yield (
            "The signed indexes of today",
            ("packages", "the index says"),
            (
                (report.now.confirmed, "the same hash as the lock"),
                (len(report.now.superseded), "nothing: another version has taken their place"),
            ),
        )
        yield (
            "Updates in the signed archives now",
            ("package", "locked", "available", "archive", ""),
            (
                (one.name, one.locked, one.available, one.archive, "security" if one.security else "")
                for one in report.now.updates
            ),
        )
    yield (
        "Keys",
        ("file", "fingerprint", "may sign", "used", "where it came from"),
        (
            (key.file, key.fingerprint, ", ".join(key.archives), "yes" if key.used else "no", key.provenance)
            for key in report.keys
        ),
    )
    yield (
        "Archives",
        ("archive", "suite", "date", "signed by", "SHA-256 of InRelease"),
        ((one.name, one.suite, one.date, one.key, one.sha256) for one in report.archives),
    )
    yield (
        "Layers",
        ("layer", "files", "unpacked", "compressed", "diff_id"),
        ((one.image, one.files, size(one.unpacked), size(one.size), one.diff_id) for one in report.layers),
    )
    yield (
        "What takes the space",
        ("layer", "package", "unpacked", "compressed"),
        ((one.layer, one.name, size(one.size), size(one.compressed)) for one in report.space[:25]),
    )
    yield (
        "Packages",
        ("package", "version", "archive", "unpacked", "compressed", "why", "SHA-256"),
        (
            (
                one.name,
                one.version,
                one.archive,
                size(one.unpacked),
                size(one.compressed),
                " → ".join(one.why),
                one.sha256,
            )
            for one in report.packages
        ),
    )
    yield (
        "Licences, by the copyright files (of each package: --json, --html)",
        ("packages", "licence"),
        ((count, name) for name, count in licence_counts(report.packages)),
    )
    yield from _files(report)
    yield from _powers(report)


def _files(report: Report) -> Tables:
    counts = Counter((file.origin, file.by) for file in report.unowned)
    yield (
        "Paths that no package owns, by origin (each of them: --json, --html)",
        ("paths", "origin", "by"),
        ((count, origin, by or "unknown") for (origin, by), count in counts.most_common()),
    )
    yield (
        "Changed files of packages",
        ("path", "package", "origin", "by", "SHA-256"),
        ((one.path, one.package, one.origin, one.by, one.sha256) for one in report.changed),
    )


def _powers(report: Report) -> Tables:
    yield (
        "Set-uid, set-gid, capabilities, writable by everybody",
        ("path", "gives", "mode", "owner", "package"),
        ((one.path, one.what, one.mode, one.owner, one.package or "none") for one in report.privileges),
    )
    yield ("Ports", ("port or socket", "why"), ((one.port, one.why) for one in report.ports))
    yield (
        "Users",
        ("user", "uid", "gid", "home", "shell", "password", "groups"),
        (
            (one.name, one.uid, one.gid, one.home, one.shell, one.password, ", ".join(one.groups))
            for one in report.users
        ),
    )
