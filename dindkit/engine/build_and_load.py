"""`invoke build`: build an image, write it where the user wants it, and load it into an engine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from dindkit.engine.load_if_running import load_if_running
from dindkit.errors import DindkitError
from dindkit.formats import image_name
from dindkit.image import build as images
from dindkit.image import output as outputs
from dindkit.image.build_options import BuildOptions
from dindkit.image.built import Built
from dindkit.image.output import Written
from dindkit.json_document import plain
from dindkit.printing import result
from dindkit.progress import Progress
from dindkit.project import Project


def run(
    project: Project,
    options: BuildOptions,
    progress: Progress,
    found: dict[str, Any],
    *,
    output: str = "",
    level: int | None = None,
    tags: Sequence[str] = (),
    as_json: bool = False,
) -> Built:
    """Build the image; print its name and id, and put what is known of it into `found`: build-1.json.

    `output` is read by output.parse. `tags` are more names for the image in the engine; in what is written it
    has only these, if there are any. Raises DindkitError; a wrong name or output before anything is built.
    """
    names = list(dict.fromkeys(str(image_name.parse(tag)) for tag in tags))
    target = outputs.parse(output) if output else None
    to_stdout = target is not None and target.to_stdout
    if to_stdout and as_json:
        raise DindkitError(
            "The image and the JSON document would both go to standard output.", "Name a file."
        )
    built, written = images.build_and_write(project, options, progress, target, level=level, names=names)
    host = load_if_running(project, built, progress, names)
    if names and host is None and written is None:
        progress.warn(f"No engine has the image, and so none knows it as {', '.join(names)}.")
    found |= result_of(built, progress, names, host, written)
    progress.note(images.summary(built, progress))
    result(f"built {built.reference} {built.image_id}", sys.stderr if to_stdout else None)
    return built


def result_of(
    built: Built, progress: Progress, names: Sequence[str], host: str | None, written: Written | None
) -> dict[str, Any]:
    """Return what build-1.json describes."""
    lock = built.inputs.lock
    return {
        "reference": built.reference,
        "image_id": built.image_id,
        "tags": list(names),
        "suite": lock.suite,
        "architecture": lock.architecture,
        "engine": built.inputs.choice,
        "from_lock": built.from_lock,
        "packages": built.packages,
        "size": built.size,
        "layers": [
            {"diff_id": layer.diff_id, "size": layer.size, "source": str(source)}
            for layer, source in zip(built.layers, built.sources, strict=True)
        ],
        "folder": str(built.folder),
        "loaded_into": host,
        "output": plain(written) if written else None,
        "steps": plain(progress.steps),
    }
