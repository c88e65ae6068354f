"""An image of what scripts in nested containers call: daemons load it in a fraction of the time of `base`."""

from __future__ import annotations

import functools
import io
import os
import pickle
import tempfile
from contextlib import closing
from pathlib import Path

from dindkit.files import locked, replacing
from dindkit.formats import layer, oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.tree import Tree
from dindkit.image import image_config
from dindkit.image.built import Built, opened
from dindkit.image.recipe import Config
from tests.support.engine_seed import SEED
from tests.support.layers import store

PROGRAMS = """
bash cat cp date dash echo env false getent grep head hostname id kill ln ls mkdir mv perl printenv readlink
rm sed seq sh sleep stat tail timeout touch tr true uname wc
"""
LIBRARIES = """
ld-linux libacl libattr libc.so libcap libcrypt.so libm.so libpcre2-8 libresolv libselinux libtinfo
"""
FILES = ("bin", "lib", "lib64", "sbin", "tmp", "etc/group", "etc/hosts", "etc/passwd", "usr/lib64")


@functools.cache
def small_image(built: Built, name: str) -> bytes:
    """Return an archive for `docker load` of an image `name` with parts of `built`.

    Without a tag in `name` it is the latest.
    """
    with opened(built) as archive, tempfile.TemporaryDirectory() as folder:
        stored, content = _layer(built)
        blob = Path(folder, "blob")
        blob.write_bytes(content)
        environment = dict(pair.split("=", 1) for pair in archive.image.config["config"]["Env"])
        image = image_config.describe(
            [image_config.Part(stored, "made by a test")],
            Config(cmd=("bash",), env=environment),
            {},
            1_700_000_000,
            archive.image.config["architecture"],
            name if ":" in name else f"{name}:latest",
        )
        out = io.BytesIO()
        oci.write(image, {stored.digest: blob}, out)
        return out.getvalue()


@functools.cache
def _layer(built: Built) -> tuple[layer.Layer, bytes]:
    """Return the layer; the workers of one run make it once."""
    if SEED not in os.environ:
        return _make(built)
    kept = Path(os.environ[SEED], f"small-{built.image_id}")
    with locked(kept.with_name("small-lock")):
        if not kept.exists():
            with replacing(kept) as file:
                file.write(pickle.dumps(_make(built)))
        found: tuple[layer.Layer, bytes] = pickle.loads(kept.read_bytes())
        return found


def _make(built: Built) -> tuple[layer.Layer, bytes]:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(ContentStore(Path(folder))) as contents,
        opened(built) as archive,
    ):
        whole, small = archive.tree(contents), Tree(contents)
        for path in whole.paths():
            if path and _is_called(path):
                small.add(whole.entries[path])
        blob = io.BytesIO()
        return store(layer.difference(small, None), contents, blob), blob.getvalue()


def _is_called(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return (
        path in FILES
        or (folder == "usr/bin" and name in PROGRAMS.split())
        or ("usr/lib" in folder and name.startswith(tuple(LIBRARIES.split())))
        or "/perl-base" in path
    )
