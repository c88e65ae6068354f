"""The verb, with the image `base` as it is built from its lock."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path

import pytest
import requests

from dindkit.errors import DamagedError, DindkitError
from dindkit.formats import oci
from dindkit.formats.image_archive import open_archive
from dindkit.image import sbom
from dindkit.image.build import BuildOptions, Built
from dindkit.image.built import compressed
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.registry.client import Repository
from dindkit.registry.publish import Image, publish
from dindkit.registry.push import push
from dindkit.registry.reference import parse
from tests.engine.test_load import poisoned, spoiled
from tests.registry.conftest import StartRegistry, log_in
from tests.support.local_project import LocalProject

BASE = BuildOptions(image="base")


def test_a_built_image_is_pushed_pulled_and_still_itself(
    project: Project,
    progress: Progress,
    base: Built,
    start_registry: StartRegistry,
    docker_config: Path,
    tmp_path: Path,
) -> None:
    server = start_registry(users=True)
    log_in(docker_config, server.host)
    reference = f"{server.host}/dindkit/base:trixie"
    said = io.StringIO()
    first = push(project, BASE, reference, Progress(said))
    assert re.search(r"compress dindkit/base:trixie .* [0-9.]+ MB, of [0-9.]+ MB", said.getvalue())
    assert (first.reference, first.sent) == (reference, len(base.layers) + 1)
    words = ["skopeo", "copy", "--src-tls-verify=false", f"--authfile={docker_config}/config.json"]
    copied = tmp_path / "copied.tar"
    subprocess.run(
        [*words, f"docker://{reference}", f"oci-archive:{copied}"], check=True, capture_output=True
    )
    with open_archive(copied) as archive:
        assert archive.image.image_id == base.image_id
        assert [one.diff_id for one in archive.image.layers] == [one.diff_id for one in base.layers]
    again = push(project, BASE, reference, progress)
    assert (again.digest, again.sent, again.skipped) == (first.digest, 0, len(base.layers) + 1)


def test_the_spdx_document_of_the_build_goes_along(
    project: Project, progress: Progress, base: Built, start_registry: StartRegistry
) -> None:
    server = start_registry()
    push(project, BASE, f"{server.host}/dindkit/base:trixie", progress)
    with compressed(base) as layout:
        subject = oci.digest(oci.document(layout.image.manifest))
    api = f"http://{server.host}/v2/dindkit/base"
    tag = subject.replace(":", "-")
    (entry,) = requests.get(f"{api}/manifests/{tag}", headers={"Accept": oci.INDEX}, timeout=9).json()[
        "manifests"
    ]
    address = f"{api}/manifests/{entry['digest']}"
    manifest = requests.get(address, headers={"Accept": oci.MANIFEST}, timeout=9).json()
    document = requests.get(f"{api}/blobs/{manifest['layers'][0]['digest']}", timeout=9).content
    assert document == sbom.read(base)
    assert json.loads(document)["spdxVersion"] == "SPDX-2.3"


def test_nothing_is_built_for_a_name_or_a_compression_that_is_wrong(
    progress: Progress, tmp_path: Path
) -> None:
    nowhere = Project(tmp_path, tmp_path, tmp_path)
    with pytest.raises(DindkitError, match="names no registry"):
        push(nowhere, BASE, "dindkit/base", progress)
    with pytest.raises(DindkitError, match="cannot be compressed with lz4"):
        push(nowhere, BASE, "localhost/dindkit/base", progress, compression="lz4")


def test_what_lies_under_the_tag_and_in_the_state_folder_does_not_count(
    small_project: LocalProject,
    progress: Progress,
    start_registry: StartRegistry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    project, base = small_project.project, small_project.build("base")
    server = start_registry()
    reference = f"{server.host}/dindkit/base:trixie"
    evil = poisoned(base, tmp_path / "image.tar")
    with open_archive(evil) as archive:
        publish([Image(archive, b"{}")], Repository(parse(reference)), progress)
    pushed = push(project, BASE, reference, progress)
    repository = Repository(parse(reference))
    index = repository.get_manifest("trixie", oci.INDEX) or b""
    assert oci.digest(index) == pushed.digest
    (entry,) = json.loads(index)["manifests"]
    manifest = repository.get_manifest(entry["digest"], oci.MANIFEST) or b""
    assert json.loads(manifest)["config"]["digest"] == base.image_id
    for compression in ("zstd", "gzip"):
        forged = spoiled(base, tmp_path / compression)
        monkeypatch.setattr("dindkit.registry.push.build", lambda *_words, forged=forged: forged)
        with pytest.raises(DamagedError, match="it is not what was built"):
            push(project, BASE, f"{server.host}/dindkit/base:evil", progress, compression=compression)
    assert repository.get_manifest("evil", oci.INDEX) is None
