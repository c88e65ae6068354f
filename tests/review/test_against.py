"""`invoke audit --against`: what changed since an archive or a revision, and what is no such thing."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from dindkit import json_document, process
from dindkit.engine import discover, load
from dindkit.engine.discover import Engine
from dindkit.errors import ArchiveError, DindkitError, EngineError, UnavailableError
from dindkit.formats.tree import Tree
from dindkit.image.build_options import BuildOptions
from dindkit.packages import lock as locks
from dindkit.progress import Progress
from dindkit.review import against, audit
from tests.review.conftest import CAP_NET_RAW, Scene, pack
from tests.review.test_odd import assert_clean
from tests.support import schemas
from tests.support.author import Author
from tests.support.local_project import LocalProject

HOSTILE = "<img src=x onerror=alert(1)>\x1b[2J\u202e"
STATUS = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {}\n\n"


@pytest.fixture
def new(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Let the scene's image be what the lock builds, and no engine answer."""
    monkeypatch.setattr(against, "resolve", lambda *_: scene.chain)
    monkeypatch.setattr(against, "build", lambda *_args, **_more: scene.built)
    monkeypatch.setattr(discover, "find", lambda *_: None)
    return scene


def archive(scene: Scene, folder: Path, change: Callable[[Tree], None]) -> str:
    """Return the path of an archive of the scene's image, after `change`."""
    return str(pack(scene.chain, folder, change).archive)


def compared(scene: Scene, old: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    audit.audit(scene.project, BuildOptions(), scene.progress, io.StringIO(), found=found, against=old)
    document = json_document.document("audit", found, None, ())
    result: dict[str, Any] = schemas.check("audit", json.loads(json.dumps(document)))["result"]
    return result


def older(tree: Tree) -> None:
    tree.edit(
        "var/lib/dpkg/status",
        STATUS.format("libc", "0.9") + STATUS.format("gone", "2:1") + STATUS.format("apt", "1.0"),
    )
    tree.edit("usr/bin/su", "su")
    tree.entries["usr/bin/su"] = replace(tree.entries["usr/bin/su"], mode=0o755)
    tree.edit("usr/bin/tool", "another tool")
    tree.put("etc/only-before", "x", 0o4711)
    tree.remove("usr/lib/systemd/system/tool.socket")
    passwd = tree.text("etc/passwd").replace("guest::7:7::/home/guest:/bin/sh\n", "")
    tree.edit("etc/passwd", passwd)


def test_everything_that_changed_since_an_archive(new: Scene, tmp_path: Path) -> None:
    found = compared(new, archive(new, tmp_path / "old", older))
    assert {one["name"]: (one["change"], one["old"], one["new"]) for one in found["packages"]} == {
        "base-files": ("added", "", "1.0"),
        "docker-ce": ("added", "", "1.0"),
        "gone": ("removed", "2:1", ""),
        "libc": ("upgraded", "0.9", "1.0"),
        "tool": ("added", "", "1.0"),
    }
    assert {one["name"]: (one["old"], one["new"]) for one in found["privileges"]} == {
        "/etc/only-before": ("set-uid root, 4711 0:0", ""),
        "/usr/bin/su": ("", "set-uid root, 4755 0:0"),
    }
    assert [(one["name"], one["change"]) for one in found["ports"]] == [("/run/tool.sock", "added")]
    assert [(one["name"], one["change"]) for one in found["users"]] == [("guest", "added")]
    files = {one["path"]: (one["change"], one["package"], one["expected"]) for one in found["files"]}
    assert files["/usr/bin/su"] == ("changed", "libc", True)
    assert files["/etc/only-before"] == ("removed", "", False)
    assert files["/var/lib/dpkg/status"] == ("changed", "", True)
    assert files["/etc/passwd"] == ("changed", "", False)
    assert found["new"]["unpacked"] - found["old"]["unpacked"] > 3000
    assert found["archives"] is None


def test_an_image_is_equal_to_itself(new: Scene) -> None:
    found = compared(new, str(new.built.archive))
    same = ("privileges", "ports", "users", "config", "files")
    assert {name: found[name] for name in same} == {name: [] for name in same}
    assert found["old"]["id"] == found["new"]["id"]


def test_configuration_by_name(new: Scene) -> None:
    old = replace(new.chain[-1].recipe.config, ports=("99/udp",), env={"PATH": "/old", "GONE": "1"})
    own = new.chain[-1]
    before = [new.chain[0], replace(own, recipe=replace(own.recipe, config=old))]
    path = new.project.root / "older"
    found = compared(new, str(pack(before, path).archive))
    config = {one["name"]: (one["change"], one["old"]) for one in found["config"]}
    assert config["ExposedPorts 99/udp"] == ("removed", "")
    assert config["ExposedPorts 2376/tcp"] == ("added", "")
    assert config["Env GONE"] == ("removed", "1")


def hostile(tree: Tree) -> None:
    tree.edit("var/lib/dpkg/status", STATUS.format(HOSTILE, f"1{HOSTILE}") + "odd\n: \nPackage:\n\n\0")
    tree.put(f"etc/{HOSTILE}", "x", 0o4755)
    tree.entries["usr/bin/ping"] = replace(tree.entries["usr/bin/ping"], capability=CAP_NET_RAW[:7])
    tree.put("var/lib/dpkg/info/x.list", "/round/a/x\n/" + "d/" * 3000 + "e\n")
    tree.add(replace(tree.entries["bin"], path="round/a", link="b/c"))
    tree.add(replace(tree.entries["bin"], path="round/b", link="a/c"))


def test_a_hostile_archive_is_text_and_moves_no_terminal(
    new: Scene, tmp_path: Path, browser: Browser
) -> None:
    old = archive(new, tmp_path / "old", hostile)
    out, file = io.StringIO(), tmp_path / "page.html"
    audit.audit(new.project, BuildOptions(), new.progress, out, against=old)
    assert r"<img src=x onerror=alert(1)>\x1b[2J\u202e" in out.getvalue()
    assert_clean(out.getvalue())
    found = compared(new, old)
    assert HOSTILE in [one["name"] for one in found["packages"]]
    audit.audit(new.project, BuildOptions(), new.progress, out, against=old, html=file)
    assert_clean(file.read_text("utf-8"))
    page = browser.new_page(viewport={"width": 420, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on(
        "request",
        lambda request: (
            complaints.append(request.url)
            if "page.html" not in request.url and not request.url.startswith("data:")
            else None
        ),
    )
    page.goto(file.as_uri())
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 420
    assert r"<img src=x onerror=alert(1)>\x1b[2J\u202e" in page.locator("#packages").inner_text()
    assert page.locator("#privileges").inner_text().count("set-uid root") == 1
    assert complaints == []


def commit(folder: Path, *names: str) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    if not (folder / ".git").is_dir():
        process.run([*git, "init", "--quiet"])
    process.run([*git, "add", *(names or ("images", "keys"))])
    process.run([*git, "commit", "--quiet", "--message", "x"])


def test_a_revision_whose_packages_are_gone_is_compared_by_its_locks(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, dind = scene.chain[0].lock, scene.chain[1].lock
    rows = tuple(replace(one, version="0.8") if one.name == "libc" else one for one in base.rows)
    dates = tuple(replace(one, date=one.date - 86400) for one in base.archives)
    old = replace(base, rows=rows, archives=dates)
    locks.write(old, scene.project.images / "base/trixie-amd64.lock")
    child = replace(dind, parent=locks.identity(old))
    locks.write(child, scene.project.images / "dind/trixie-amd64-docker-ce.lock")
    commit(scene.project.root)
    locks.write(base, scene.project.images / "base/trixie-amd64.lock")
    child = replace(dind, parent=locks.identity(base))
    locks.write(child, scene.project.images / "dind/trixie-amd64-docker-ce.lock")

    def build(project: object, *_args: object, **_more: object) -> object:
        if project != scene.project:
            raise UnavailableError("libc 0.8 is gone.")
        return scene.built

    monkeypatch.setattr(against, "build", build)
    found = compared(scene, "HEAD")
    (package,) = found["packages"]
    assert (package["name"], package["change"], package["old"], package["new"]) == (
        "libc",
        "upgraded",
        "0.8",
        "1.0",
    )
    assert found["archives"][0]["name"] == "debian trixie"
    assert found["files"] is None
    assert "Of HEAD only the locks are compared: libc 0.8 is gone." in scene.said.getvalue()
    out, file = io.StringIO(), scene.project.root / "page.html"
    audit.audit(scene.project, BuildOptions(), scene.progress, out, against="HEAD")
    assert "Not compared: files" in out.getvalue()
    audit.audit(scene.project, BuildOptions(), scene.progress, out, against="HEAD", html=file)
    assert "Not compared" in file.read_text()


def test_a_revision_without_the_lock(scene: Scene) -> None:
    commit(scene.project.root)
    with pytest.raises(DindkitError) as caught:
        compared(scene, "HEAD")
    assert caught.value.cause == "In the revision HEAD: There is no lock at images/base/trixie-amd64.lock."


@pytest.mark.parametrize(
    ("old", "said"),
    [
        ("HEAD~99", "HEAD~99 is no file and no revision of this project ("),
        ("--output", "--output is no file and no revision"),
        ("gone.tar", "gone.tar does not exist."),
        ("./gone", "./gone does not exist."),
    ],
)
def test_what_is_nothing_of_the_kind(new: Scene, old: str, said: str) -> None:
    with pytest.raises(EngineError) as caught:
        compared(new, old)
    assert str(caught.value).startswith(said)


def test_a_file_that_is_no_archive(new: Scene, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(ArchiveError, match=r"notes\.txt is not an image archive"):
        compared(new, str(tmp_path / "notes.txt"))


def test_a_lock_is_sent_to_its_revision(new: Scene, tmp_path: Path) -> None:
    (tmp_path / "trixie-amd64.lock").write_text("x")
    with pytest.raises(DindkitError, match=r"trixie-amd64\.lock is a lock, .* Name that: HEAD, a branch"):
        compared(new, str(tmp_path / "trixie-amd64.lock"))


def test_updates_are_another_question(new: Scene) -> None:
    with pytest.raises(DindkitError, match="two questions"):
        audit.audit(
            new.project, BuildOptions(), new.progress, io.StringIO(), against="HEAD", with_updates=True
        )


def test_a_real_revision_is_built_and_compared(small_project: LocalProject, tmp_path: Path) -> None:
    """A newer greeter, and a file of the recipe's own that is a link; the repository stays as it was."""
    root = small_project.project.root
    link = root / "images/app/rootfs/etc/greeting"
    link.parent.mkdir(parents=True)
    link.symlink_to("/etc/passwd")
    commit(root)
    link.unlink()
    small_project.archive.add_deb("greeter", "1.1", files={"usr/bin/greet": "#!/bin/sh\necho hi\n"})
    small_project.publish()
    small_project.lock()
    before = process.run(["git", "-C", str(root), "status", "--porcelain"]).stdout
    found: dict[str, Any] = {}
    audit.audit(
        small_project.project,
        BuildOptions("app"),
        Progress(small_project.said),
        io.StringIO(),
        found=found,
        against="HEAD",
    )
    assert [(one["name"], one["old"], one["new"]) for one in found["packages"]] == [("greeter", "1.0", "1.1")]
    files = {one["path"]: (one["change"], one["expected"]) for one in found["files"]}
    assert files["/usr/bin/greet"] == ("changed", True)
    assert files["/etc/greeting"] == ("removed", False)
    assert process.run(["git", "-C", str(root), "status", "--porcelain"]).stdout == before
    assert list((small_project.project.state / "tmp").glob("*audit*")) == []


def test_a_revision_of_a_recipe_of_ones_own_is_of_its_own_repository(author: Author) -> None:
    author.write("my-base", 'parent = "base"\n')
    path = author.write("my-runner", 'parent = "../my-base"\n', rootfs__srv__one="1")
    author.lock(path)
    commit(author.folder, ".")
    Path(path, "rootfs/srv/one").write_text("2")
    found: dict[str, Any] = {}
    arguments = (author.project, BuildOptions(path), Progress(author.said), io.StringIO())
    audit.audit(*arguments, found=found, against="HEAD")
    assert [(one["path"], one["change"]) for one in found["files"]] == [("/srv/one", "changed")]
    author.write("new", 'parent = "base"\n')
    author.lock(str(author.folder / "new"))
    with pytest.raises(DindkitError, match=r"In the revision HEAD: There is no folder"):
        audit.audit(author.project, BuildOptions(str(author.folder / "new")), *arguments[2:], against="HEAD")


def test_an_image_of_the_engine(
    engine: Engine, small_project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name there; and one that was made from it differs by what was done."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    project, options, progress = small_project.project, BuildOptions("app"), Progress(quiet=True)
    process.run(["git", "init", "--quiet", str(project.root)])  # whatever other tests have done with it
    built = small_project.build()
    load.load(engine, built, progress)
    try:
        container = engine.client.containers.create(built.reference, "true")
        try:
            container.put_archive("/etc", tar_with("fresh", b"new"))
            container.commit("team/changed", "1")
        finally:
            container.remove()
        same = against.examine(project, options, built.reference, progress)
        assert (same.files, same.packages) == ((), ())
        try:
            other = against.examine(project, options, "team/changed:1", progress)
        finally:
            engine.client.images.remove("team/changed:1")
        assert [(one.path, one.change) for one in other.files or ()] == [("/etc/fresh", "removed")]
        with pytest.raises(
            EngineError, match=r"gone:1 is no file, no revision of this project, and no image of unix:"
        ):
            against.examine(project, options, "gone:1", progress)
    finally:
        engine.client.images.remove(built.reference)


def tar_with(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return out.getvalue()
