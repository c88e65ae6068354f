"""The page itself: a heading with figures, then one section per question."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from dindkit.progress import size
from dindkit.review import privileges
from dindkit.review import report as facts
from dindkit.review.page import chain, treemap
from dindkit.review.page.markup import Markup, join, tag, void
from dindkit.review.page.tables import Column, amount, digest, long_table, table
from dindkit.review.report import Report


@dataclass(frozen=True)
class _Section:
    name: str
    title: str
    why: str
    body: Markup


def render(report: Report) -> str:
    """Return the whole page. Equal reports give equal pages."""
    style, script = Markup(_part("style.css")), Markup(_part("page.js"))
    sections = list(_sections(report))
    head = tag(
        "head",
        void("meta", charset="utf-8"),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("title", f"Audit of {report.image.reference}"),
        void("link", rel="icon", href="data:,"),
        tag("style", style),
    )
    links = [tag("a", section.name.capitalize(), href=f"#{section.name}") for section in sections]
    body = tag(
        "body",
        tag("main", _top(report)),
        tag("div", tag("div", tag("nav", *links, aria_label="Sections")), class_="bar"),
        tag("main", *map(_section, sections), _footer()),
        tag("script", script),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _part(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    """Return a content security policy: this page's style and script alone, and nothing from the network."""
    own = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    return f"default-src 'none'; img-src data:; style-src 'sha256-{own[0]}'; script-src 'sha256-{own[1]}'"


def _section(section: _Section) -> Markup:
    return tag(
        "section",
        tag("h2", section.title),
        tag("p", section.why, class_="why"),
        section.body,
        id=section.name,
    )


def _top(report: Report) -> Markup:
    image = report.image
    engine = f" with {image.engine}" if image.engine else ""
    mark = (
        tag("span", "as the lock says", class_="good")
        if image.from_lock
        else tag("span", "not from the lock", class_="bad")
    )
    files = sum(layer.files for layer in report.layers)
    tiles: list[tuple[str, object]] = [
        ("packages", len(report.packages)),
        ("files", f"{files:,}"),
        ("of them no package's", f"{sum(file.kind == 'file' for file in report.unowned):,}"),
        ("to download", size(image.size)),
        ("unpacked", size(image.unpacked)),
        ("keys it rests on", sum(key.used for key in report.keys)),
    ]
    if report.now:
        security = sum(update.security for update in report.now.updates)
        waiting = tag("span", security, class_="bad" if security else "good")
        tiles.append(("security updates waiting", waiting))
    lead = f"Debian {image.suite}, {image.architecture}{engine}, as of {image.created[:10]}, "
    return tag(
        "header",
        tag("h1", image.reference),
        tag("p", lead, mark, class_="lead"),
        tag("p", image.id, class_="id"),
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in tiles), class_="tiles"),
        class_="top",
    )


def _sections(report: Report) -> Iterator[_Section]:
    yield _Section(
        "chain",
        "From key to image",
        "Each box vouches for the next by a signature or a SHA-256. "
        "The ribbons are as wide as the packages that they carry.",
        tag("div", chain.draw(report), class_="scroll"),
    )
    if report.now:
        yield _Section("updates", "Updates", "What the signed archives say now.", _updates(report.now))
    yield _Section(
        "keys",
        "Keys",
        "All trust ends here: files of the project, each with one primary key, pinned by its fingerprint.",
        _keys(report),
    )
    yield _Section(
        "archives",
        "Archives",
        "The signed InRelease files that the locks were made from. Their dates are the image's dates.",
        _archives(report),
    )
    yield _Section(
        "space", "Space", "What the files take, unpacked; grey is what no package owns.", _space(report)
    )
    yield _Section(
        "packages",
        "Packages",
        "Every package, what brought it in, and the hash that a build checks before it reads a byte of it.",
        _packages(report),
    )
    yield _Section(
        "files",
        "Files that no package owns",
        "The recipe puts some there; maintainer scripts make the rest when dpkg configures their packages.",
        _files("files", report.unowned),
    )
    yield _Section(
        "changed",
        "Changed files of packages",
        "Their content is not the one that their package shipped.",
        _files("changed", report.changed) if report.changed else tag("p", "None.", class_="good"),
    )
    yield _Section(
        "privileges",
        "Set-uid, set-gid, capabilities",
        "Programs that give whoever runs them more than they had, and whatever everybody may write.",
        _privileges(report),
    )
    yield _Section("start", "Start and ports", "What runs, and where it may listen.", _start(report))
    yield _Section("users", "Users", "Accounts, and whether a password opens them.", _users(report))


def _updates(now: facts.UpdateCheck) -> Markup:
    said = f"Their indexes list {now.confirmed} packages with the very hashes of the lock"
    others = f", and {len(now.superseded)} no longer: {', '.join(now.superseded)}." if now.superseded else "."
    confirmed = tag("p", said, others)
    if not now.updates:
        newest = tag("p", "Every package is the newest that its archive has.", class_="good")
        return join(confirmed, newest)
    columns = [
        Column[facts.Update]("package", lambda one: tag("strong", one.name)),
        Column[facts.Update]("locked", lambda one: one.locked, "version"),
        Column[facts.Update]("available", lambda one: one.available, "version"),
        Column[facts.Update](
            "from", lambda one: tag("span", one.archive, class_="bad") if one.security else one.archive
        ),
    ]
    return join(confirmed, table(columns, now.updates))


def _keys(report: Report) -> Markup:
    columns = [
        Column[facts.Key]("file", lambda key: tag("code", f"keys/{key.file}")),
        Column[facts.Key]("fingerprint", lambda key: tag("code", _grouped(key.fingerprint)), "full"),
        Column[facts.Key]("may sign", lambda key: ", ".join(key.archives)),
        Column[facts.Key]("used here", lambda key: "yes" if key.used else "no"),
        Column[facts.Key]("where it came from", lambda key: key.provenance, "chainlist"),
    ]
    return table(columns, report.keys)


def _grouped(fingerprint: str) -> str:
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


def _archives(report: Report) -> Markup:
    columns = [
        Column[facts.Archive]("archive", lambda one: tag("strong", one.name)),
        Column[facts.Archive]("suite", lambda one: one.suite),
        Column[facts.Archive]("date", lambda one: one.date),
        Column[facts.Archive]("signed by", lambda one: tag("span", one.key, title=one.signer)),
        Column[facts.Archive]("SHA-256 of InRelease", lambda one: digest(one.sha256)),
        Column[facts.Archive]("snapshot", lambda one: tag("code", one.snapshot)),
        Column[facts.Archive]("in the lock of", lambda one: ", ".join(one.locks)),
    ]
    return table(columns, report.archives)


def _space(report: Report) -> Markup:
    columns = [
        Column[facts.Layer]("layer", lambda one: tag("strong", one.image)),
        Column[facts.Layer]("files", lambda one: f"{one.files:,}", "number"),
        amount("unpacked", lambda one: one.unpacked),
        amount("compressed", lambda one: one.size),
        Column[facts.Layer]("diff_id", lambda one: digest(one.diff_id)),
        Column[facts.Layer]("digest", lambda one: digest(one.digest)),
    ]
    return join(tag("div", treemap.draw(report.space), class_="scroll"), table(columns, report.layers))


def _packages(report: Report) -> Markup:
    columns = [
        Column[facts.Package]("package", lambda one: tag("strong", one.name)),
        Column[facts.Package]("version", lambda one: one.version, "version"),
        Column[facts.Package]("archive", lambda one: tag("span", one.archive, class_="tag")),
        Column[facts.Package]("layer", lambda one: one.layer),
        amount("unpacked", lambda one: one.unpacked),
        Column[facts.Package]("why", lambda one: " → ".join(one.why), "chainlist"),
        Column[facts.Package]("SHA-256", lambda one: digest(one.sha256)),
    ]
    return long_table("packages", columns, report.packages, lambda one: one.archive, "archive")


def _files(name: str, files: tuple[facts.File, ...]) -> Markup:
    columns = [
        Column[facts.File]("path", _path, "path"),
        Column[facts.File]("origin", lambda one: tag("span", one.origin, class_="tag")),
        Column[facts.File]("by", lambda one: one.by or tag("span", "unknown", class_="quiet"), "by"),
        Column[facts.File]("layer", lambda one: one.layer),
        Column[facts.File]("mode", lambda one: tag("code", f"{one.mode} {one.owner}"), "nowrap"),
        Column[facts.File](
            "size", lambda one: size(one.size) if one.sha256 else "", "number", lambda one: one.size
        ),
        Column[facts.File]("SHA-256", lambda one: digest(one.sha256)),
    ]
    return long_table(name, columns, files, lambda one: one.origin, "origin")


def _path(file: facts.File) -> Markup:
    if file.link:
        return join(file.path, tag("span", f" → {file.link}", class_="quiet"))
    return join(file.path, "/" if file.kind == "dir" else "")


def _privileges(report: Report) -> Markup:
    columns = [
        Column[facts.Privilege]("path", lambda one: one.path, "path"),
        Column[facts.Privilege]("gives", lambda one: one.what),
        Column[facts.Privilege]("mode", lambda one: tag("code", f"{one.mode} {one.owner}")),
        Column[facts.Privilege]("package", lambda one: one.package or "none"),
    ]
    return table(columns, report.privileges)


def _start(report: Report) -> Markup:
    config = report.image.config
    lines = [
        (name, " ".join(sorted(value) if isinstance(value, dict) else value))
        for name, value in (
            ("entrypoint", config.get("Entrypoint")),
            ("command", config.get("Cmd")),
            ("volumes", config.get("Volumes")),
            ("environment", config.get("Env")),
        )
        if value
    ]
    lines.append(("user", config.get("User") or "root"))
    columns = [
        Column[facts.Port]("port or socket", lambda one: tag("code", one.port)),
        Column[facts.Port]("why", lambda one: one.why),
    ]
    start = tag(
        "dl", *(join(tag("dt", name), tag("dd", tag("code", value))) for name, value in lines), class_="facts"
    )
    return join(
        start, tag("h3", "Ports"), table(columns, report.ports) if report.ports else tag("p", "None.")
    )


def _users(report: Report) -> Markup:
    columns = [
        Column[facts.User]("user", lambda one: tag("strong", one.name)),
        Column[facts.User]("uid", lambda one: one.uid, "number"),
        Column[facts.User]("gid", lambda one: one.gid, "number"),
        Column[facts.User]("home", lambda one: tag("code", one.home)),
        Column[facts.User]("shell", lambda one: tag("code", one.shell)),
        Column[facts.User]("password", _password),
        Column[facts.User]("further groups", lambda one: ", ".join(one.groups)),
    ]
    return table(columns, report.users)


def _password(user: facts.User) -> Markup:
    locked = user.password == privileges.LOCKED
    return tag("span", user.password, class_="good" if locked else "bad")


def _footer() -> Markup:
    return tag(
        "footer",
        "Made from the lock, the keys and the built image by invoke audit --html. "
        "Whether the image is what its lock says is for invoke verify to tell.",
    )
