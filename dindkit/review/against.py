"""`invoke audit --against OLD`: what changed since another image, an archive, or a revision of the locks."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from dindkit import owner
from dindkit.engine import discover, images
from dindkit.errors import DindkitError, EngineError, UnavailableError
from dindkit.files import check_output
from dindkit.formats.contents import ContentStore
from dindkit.image import recipe_folders
from dindkit.image.build import build
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.review import changes, changes_text, gather, image_facts, revision
from dindkit.review.changes import Changes
from dindkit.review.forms import Forms
from dindkit.review.image_facts import ImageFacts


def run(
    project: Project,
    options: BuildOptions,
    old: str,
    progress: Progress,
    out: TextIO,
    *,
    found: dict[str, Any] | None = None,
    html: Path | None = None,
) -> None:
    """Print what changed from `old` to the image that the lock builds, in the forms of `audit`: audit-1.json.

    Raises DindkitError where `old` cannot be had.
    """
    if html:
        check_output(html)
    made = examine(project, options, old, progress)
    Forms("the changes are", changes_text.show, _page).show(made, progress, out, found, html)


def _page(made: Changes) -> str:
    from dindkit.review.page.changes import render  # imported here: templates take time

    return render(made)


def examine(project: Project, options: BuildOptions, old: str, progress: Progress) -> Changes:
    """Compare the image that the lock builds with `old`; raises DindkitError."""
    options = replace(options, solve_anew=False)
    with closing(ContentStore(project.state / "tmp")) as contents:
        before = _old(project, options, old, contents, progress)
        chain = resolve(project, options)
        built = build(project, options, progress)
        with progress.step("read the image"):
            after = image_facts.of_built(built.reference, gather.read(built, contents), chain)
        with progress.step("compare"):
            return changes.between(before, after)


def _old(
    project: Project, options: BuildOptions, name: str, contents: ContentStore, progress: Progress
) -> ImageFacts:
    """Return the facts of `name`: a file, else a revision that git knows, else an image of the engine."""
    if name.endswith(".lock") and Path(name).is_file():
        raise DindkitError(
            f"{name} is a lock, and locks are compared by the revision that they are of.",
            "Name that: HEAD, a branch or a commit.",
        )
    if name and Path(name).is_file():
        with progress.step(f"read {name}"):
            return image_facts.of_archive(name, Path(name), contents)
    place = recipe_folders.find(project, options.image)
    repository = revision.holding(project, place.folder) if place.outside else project
    if commit := revision.commit(repository, name):
        with owner.workspace(project.state / "tmp", "audit", 0o700) as folder:
            # Named as it is here: a recipe at the top may take its name from the folder.
            root = folder / (repository.root.name if place.outside else "project")
            revision.check_out(repository, commit, root)
            then = replace(project, root=root)
            if place.outside:
                path = root / place.folder.relative_to(repository.root)
                then, options = project, replace(options, image=str(path))
            return _of_revision(then, root, options, name, commit, contents, progress)
    images.archive_path(name)  # raises where it can only be a file
    engine = discover.find(project)
    told = "" if revision.is_repository(repository) else f" ({repository.root} is in no git repository)"
    if engine is None:
        raise EngineError(
            f"{name} is no file and no revision of this project{told}, and no Docker engine answers "
            "that could know it as an image.",
            "Give an archive or a revision, or start an engine.",
        )
    if images.find(engine, name) is None:
        raise EngineError(
            f"{name} is no file, no revision of this project{told}, and no image of {engine.host}.",
            "Give an archive, a revision that `git rev-parse` knows, or the name of an image.",
        )
    with (
        images.saved(engine, name, project.state / "tmp", "audit", progress) as path,
        progress.step(f"read {name}"),
    ):
        return image_facts.of_archive(name, path, contents)


def _of_revision(
    then: Project,
    root: Path,
    options: BuildOptions,
    name: str,
    commit: str,
    contents: ContentStore,
    progress: Progress,
) -> ImageFacts:
    """Build the image from the recipes, keys and locks of a commit, which lie at `root`, and read it.

    Where its packages cannot be had any more, its locks alone are read, and a warning says so.
    """
    try:
        chain = resolve(then, options)
    except DindkitError as error:
        cause = error.cause.replace(f"{root}/", "")
        raise DindkitError(f"In the revision {name}: {cause}", "Name one that has this lock.") from error
    try:
        built = build(then, replace(options, frozen=False), progress, check_ids=False)
    except UnavailableError as error:
        progress.warn(f"Of {name} only the locks are compared: {error.cause}")
        return image_facts.of_locks(name, commit, chain)
    with progress.step(f"read the image of {name}"):
        return image_facts.of_built(name, gather.read(built, contents), chain)
