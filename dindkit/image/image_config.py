"""The documents of an image: its configuration, labels and history, and the manifest over its layers.

OCI image-spec: config.md, manifest.md, annotations.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dindkit.formats.layer import Layer
from dindkit.formats.oci import CONFIG, MANIFEST, Image, described, digest, document, timestamp
from dindkit.image import build_inputs
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.recipe import Config

#: CPU variants that registries and engines tell apart (OCI image-spec, config.md).
VARIANTS = {"arm64": "v8"}
SECOND = 1_000_000_000  # Docker counts a health check's times in nanoseconds


#: The two kinds of layers: the packages of a recipe, and the recipe's own files.
PACKAGES, FILES = "packages", "files"


@dataclass(frozen=True)
class Source:
    """What a layer was made from: a recipe, and which of its two parts (PACKAGES or FILES)."""

    image: str
    part: str

    def __str__(self) -> str:
        return f"{self.image} {self.part}"


@dataclass(frozen=True)
class Part:
    """A layer, and the text of its entry in the image's history."""

    layer: Layer
    created_by: str


def labels(inputs: BuildInputs) -> dict[str, str]:
    """Return the image's labels: OCI's annotations.md."""
    recipe, lock = inputs.recipe, inputs.lock
    found = {
        "org.opencontainers.image.created": timestamp(inputs.epoch),
        "org.opencontainers.image.title": recipe.title,
        "org.opencontainers.image.description": recipe.description,
        "org.opencontainers.image.version": lock.suite,
        "org.opencontainers.image.revision": build_inputs.revision(inputs),
        "dindkit.suite": lock.suite,
        "dindkit.from-lock": str(inputs.from_lock).lower(),
    }
    if not recipe.outside:
        found["org.opencontainers.image.authors"] = "the dindkit project"
    if inputs.choice:
        found["dindkit.engine"] = inputs.choice
    return found


def _history(inputs: BuildInputs, part: str) -> str:
    name, lock = inputs.recipe.name, inputs.lock
    if part == FILES:
        return f"dindkit {name}: files of the recipe"
    engine = f", engine {inputs.choice}" if inputs.choice else ""
    records = ", ".join(
        f"{record.archive} {record.suite} {timestamp(record.date)}" for record in lock.archives
    )
    return f"dindkit {name}: {len(lock.rows)} packages{engine} from {records}"


def _parts(inputs: BuildInputs, layers: Sequence[Layer], sources: Sequence[Source]) -> list[Part]:
    made: dict[str, BuildInputs] = {}
    one: BuildInputs | None = inputs
    while one:
        made[one.recipe.name] = one
        one = one.parent
    return [
        Part(layer, _history(made[source.image], source.part))
        for layer, source in zip(layers, sources, strict=True)
    ]


def config(inputs: BuildInputs) -> Config:
    """Return the configuration of the image.

    A recipe outside `images/` says what differs from its parent's, as a Dockerfile does after FROM: an
    entrypoint of its own comes without the parent's command. Those inside say everything.
    """
    own = inputs.recipe.config
    if not inputs.recipe.outside or not inputs.parent:
        return own
    above = config(inputs.parent)
    return Config(
        entrypoint=own.entrypoint or above.entrypoint,
        cmd=own.cmd if own.cmd or own.entrypoint else above.cmd,
        env={**above.env, **own.env},
        volumes=tuple(sorted({*above.volumes, *own.volumes})),
        ports=tuple(sorted({*above.ports, *own.ports})),
        labels={**above.labels, **own.labels},
        user=own.user or above.user,
        workdir=own.workdir or above.workdir,
        healthcheck=own.healthcheck or above.healthcheck,
    )


def _container(config: Config, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the `config` member of an image configuration."""
    found: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in sorted(config.env.items())],
        "Labels": dict(labels) | dict(config.labels),
    }
    if config.entrypoint:
        found["Entrypoint"] = list(config.entrypoint)
    found["Cmd"] = list(config.cmd)
    if config.volumes:
        found["Volumes"] = {path: {} for path in config.volumes}
    if config.ports:
        found["ExposedPorts"] = {port: {} for port in config.ports}
    if config.user:
        found["User"] = config.user
    if config.workdir:
        found["WorkingDir"] = config.workdir
    if config.healthcheck:
        health = config.healthcheck
        found["Healthcheck"] = {
            "Test": list(health.test),
            "Interval": health.interval * SECOND,
            "Timeout": health.timeout * SECOND,
            "StartPeriod": health.start_period * SECOND,
            "StartInterval": health.start_interval * SECOND,
            "Retries": health.retries,
        }
    return found


def describe(
    parts: Sequence[Part], config: Config, labels: Mapping[str, str], epoch: int, architecture: str, tag: str
) -> Image:
    """Return the image with these `parts`, lowest first; `labels` are its annotations, too."""
    created = timestamp(epoch)
    platform = {"architecture": architecture, "os": "linux"}
    if architecture in VARIANTS:
        platform["variant"] = VARIANTS[architecture]
    configuration = {
        **platform,
        "created": created,
        "config": _container(config, labels),
        "rootfs": {"type": "layers", "diff_ids": [part.layer.diff_id for part in parts]},
        "history": [{"created": created, "created_by": part.created_by} for part in parts],
    }
    text = document(configuration)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(text), "size": len(text)},
        "layers": described(part.layer for part in parts),
        "annotations": dict(labels),
    }
    return Image(configuration, manifest, tuple(part.layer for part in parts), (tag,))


def describe_image(inputs: BuildInputs, layers: Sequence[Layer], sources: Sequence[Source]) -> Image:
    """Return the image of `inputs` with these `layers`, lowest first; `sources` as in Built."""
    return describe(
        _parts(inputs, layers, sources),
        config(inputs),
        labels(inputs),
        inputs.epoch,
        inputs.lock.architecture,
        inputs.tag,
    )
