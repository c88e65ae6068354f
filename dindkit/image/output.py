"""Where `invoke build --output` writes an image, and in which form, in the words of `docker buildx`."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dindkit import owner
from dindkit.errors import DindkitError, did_you_mean
from dindkit.files import check_output, check_writable, output_file, output_path
from dindkit.formats import oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_layout import Layout
from dindkit.image import built as built_images
from dindkit.image.built import Built
from dindkit.progress import Progress, size
from dindkit.project import Project

#: The forms: an archive for `docker load` and OCI tools, the same as a folder, and a root file system.
DOCKER, OCI, TAR = "docker", "oci", "tar"
FORMS = (DOCKER, OCI, TAR)
#: What docker buildx can write besides.
OTHER_FORMS = {
    "local": "type=tar, and unpack it",
    "image": "--tag, for an engine",
    "registry": "invoke push",
    "rootfs": "type=tar",
}
KEYS = ("type", "dest", "tar")
HOW = "Give a file, or type=docker|oci|tar,dest=PATH, for an OCI layout folder with tar=false."
#: Stands for standard output.
STDOUT = "-"


@dataclass(frozen=True)
class Output:
    """A file, or the folder of an OCI image layout."""

    path: Path
    form: str = DOCKER
    folder: bool = False

    @property
    def to_stdout(self) -> bool:
        """Whether it is written to this process's standard output."""
        return not self.folder and check_output(self.path) == 1


@dataclass(frozen=True)
class Written:
    """What was written. `manifest` is the digest of the image's manifest, empty where it has none."""

    type: str
    path: str
    folder: bool
    manifest: str


def parse(text: str) -> Output:
    """Read the value of `--output`: a path, or `type=…,dest=…` as `docker buildx build` takes it.

    Raises DindkitError for an unknown type or key, and where no place is named.
    """
    if text.partition("=")[0].strip().lower() not in KEYS:
        return Output(_path(text))
    given: dict[str, str] = {}
    for field in next(csv.reader([text])):
        key, equals, value = field.partition("=")
        key = key.strip().lower()  # as buildx does
        if key not in KEYS or not equals:
            raise DindkitError(f"--output knows no {field!r}.", f"{did_you_mean(key, KEYS)}{HOW}")
        if key in given:
            raise DindkitError(f"--output has {key}= twice.", HOW)
        given[key] = value
    form = given.get("type", DOCKER)
    if form not in FORMS:
        other = OTHER_FORMS.get(form)
        hint = f"Instead: {other}." if other else f"{did_you_mean(form, FORMS)}Choose: {', '.join(FORMS)}."
        raise DindkitError(f"--output writes no type={form}.", hint)
    if given.get("tar", "true") not in ("true", "false"):
        raise DindkitError(f"tar={given['tar']} is neither true nor false.", HOW)
    folder = given.get("tar") == "false"
    if folder and form != OCI:
        raise DindkitError(f"Only type=oci can be a folder, and not type={form}.", "Leave tar=false out.")
    if not given.get("dest"):
        raise DindkitError("--output says not where to.", HOW)
    if folder and given["dest"] == STDOUT:
        raise DindkitError("A folder cannot be written to standard output.", "Leave tar=false out.")
    return Output(Path(given["dest"]) if folder else _path(given["dest"]), form, folder)


def _path(text: str) -> Path:
    return Path("/dev/stdout") if text == STDOUT else output_path(text)


def check(output: Output, level: int | None) -> None:
    """Raise DindkitError where `output` cannot be written; before the work, which takes long."""
    if output.folder:
        _check_folder(output.path)
    else:
        check_output(output.path)
    if output.form == TAR and level is not None:
        raise DindkitError("--level is for layers, and a root file system has none.", "Leave it out.")


def _check_folder(path: Path) -> Path:
    """Return the path, links followed. An OCI layout may be there already, or an empty folder."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise DindkitError(f"{path} cannot be written: there is no folder {target.parent}.", "Make it first.")
    if target.exists() and not target.is_dir():
        raise DindkitError(f"{path} is no folder.", "Name another, or remove it.")
    if target.is_dir() and any(target.iterdir()) and not (target / oci.MARK).is_file():
        raise DindkitError(f"{path} holds other things than an OCI image layout.", "Name another folder.")
    check_writable(target.parent, path)
    return target


def write(
    project: Project,
    built: Built,
    output: Output,
    progress: Progress,
    *,
    level: int | None = None,
    names: Sequence[str] = (),
) -> Written:
    """Write the image; what was at the path before stays until all of it is there.

    In an archive or a layout the image has the `names`, by default that of its recipe, and its layers are
    compressed with this `level` of zstd. Raises DindkitError and OSError.
    """
    if output.form == TAR:
        _write_tree(project, built, output, progress)
        return Written(TAR, str(output.path), False, "")
    with (
        progress.step(f"compress {built.reference}") as step,
        built_images.compressed(built, level) as layout,
    ):
        step.detail = size(layout.size)
        named = layout.named(names) if names else layout
        if output.folder:
            _write_folder(named, _check_folder(output.path))
        else:
            with output_file(output.path) as file:
                for chunk in named.stream():
                    file.write(chunk)
        manifest = oci.digest(oci.document(layout.image.manifest))
    return Written(output.form, str(output.path), output.folder, manifest)


def _write_tree(project: Project, built: Built, output: Output, progress: Progress) -> None:
    """Write the image's files as one tar: hard links, capabilities and device nodes as in its layers."""
    with (
        progress.step(f"write the files of {built.reference}") as step,
        built_images.opened(built) as layout,
        closing(ContentStore(project.state / "tmp")) as contents,
    ):
        tree = layout.tree(contents)
        step.detail = f"{len(tree.entries)} paths"
        with output_file(output.path) as file:
            tree.write(file)


def _write_folder(layout: Layout, target: Path) -> None:
    """Write an OCI image layout beside `target`, and give it that name.

    An earlier layout there is moved aside for this moment, and deleted afterwards.
    """
    with owner.workspace(target.parent, owner.HIDDEN) as work:
        new, old = work / "new", work / "old"
        for name, chunks in layout.files().items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
