"""An image is what its lock says, or every path that is not is named; and its bill of materials is SPDX."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from dindkit.formats import oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.image import rebuild, sbom, seal
from dindkit.image.build import Built, build
from dindkit.image.build_options import BuildOptions
from dindkit.image.expected_ids import DifferentError, deviations, ids_of
from dindkit.packages import lock as locks
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.layers import store
from tests.support.local_project import LocalProject

OPTIONS = BuildOptions(image="app")


def test_a_sealed_lock_is_what_a_rebuild_arrives_at(small_project: LocalProject) -> None:
    progress = Progress(small_project.said)
    with pytest.raises(DifferentError, match="the lock names no identity"):
        rebuild.rebuild(small_project.project, OPTIONS, progress)
    seal.seal(small_project.project, OPTIONS, progress)
    sealed = small_project.build()
    (path,) = (small_project.project.images / "app").glob("*.lock")
    lock = locks.read(path)
    assert lock.expected == ids_of(sealed)
    assert rebuild.rebuild(small_project.project, OPTIONS, progress).image_id == sealed.image_id
    assert not list(small_project.project.state.glob("verify-*"))
    (small_project.project.images / "app" / "image.toml").write_text(
        'parent = "base"\npackages = ["greeter"]\n[folders]\n"/added" = "0755"\n'
    )
    with pytest.raises(DifferentError, match=r"it has 4 layers, the lock says 3; its id is sha256:"):
        rebuild.rebuild(small_project.project, OPTIONS, progress)


@pytest.mark.archive
@pytest.mark.parametrize("suite", ["trixie", pytest.param("forky", marks=pytest.mark.full)])
@pytest.mark.parametrize("image", ["dind", "base", "git", "registry"])
def test_what_is_built_here_is_what_the_committed_lock_promises(
    project: Project, progress: Progress, image: str, suite: str
) -> None:
    """Files of forky leave the mirrors, and a mirror of it may lag: then it is solved anew."""
    engine = "docker.io" if image == "dind" else "auto"
    options = BuildOptions(image=image, engine=engine, suite=suite, allow_expired=suite != "trixie")
    built = build(project, options, progress)
    wanted = built.inputs.lock.expected
    assert wanted is not None
    said = deviations(ids_of(built), wanted)
    assert (said == []) == built.from_lock  # a locked file that has left the mirror makes another image


def tampered(built: Built, folder: Path) -> Path:
    """Return an archive like that of `built` in which one file was swapped and another one made set-uid."""
    contents = ContentStore(folder)
    blobs = {}
    with open_archive(built.archive) as archive:
        image = archive.image
        for one in image.layers[:-1]:
            blobs[one.digest] = folder / one.digest
            blobs[one.digest].write_bytes(archive.blob(one).read())
        entries = list(archive.entries(image.layers[-1], contents))
    digest, size = contents.put(b"#!/bin/sh\necho evil\n")
    changed = []
    for entry in entries:
        if entry.path == "usr/bin/greet":
            entry = replace(entry, digest=digest, size=size)
        if entry.path == "var/lib/dpkg/info/greeter.list":
            entry = replace(entry, mode=0o4755)
        changed.append(entry)
    with (folder / "blob").open("wb") as out:
        made = store(changed, contents, out)
    blobs[made.digest] = folder / "blob"
    stack = (*image.layers[:-1], made)
    config = {**image.config, "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in stack]}}
    text = oci.document(config)
    described = {
        "config": {"mediaType": oci.CONFIG, "digest": oci.digest(text), "size": len(text)},
        "layers": [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in stack],
    }
    evil = replace(image, config=config, manifest={**image.manifest, **described}, layers=stack)
    with (folder / "evil.tar").open("wb") as out:
        oci.write(evil, blobs, out)
    return folder / "evil.tar"


def test_a_tampered_image_is_taken_apart(small_project: LocalProject, tmp_path: Path) -> None:
    built = small_project.build()
    progress = Progress(small_project.said)
    assert rebuild.against(small_project.project, OPTIONS, built.archive, progress) == []
    found = rebuild.against(small_project.project, OPTIONS, tampered(built, tmp_path), progress)
    assert [(one.layer, one.path, one.how) for one in found] == [
        (2, "usr/bin/greet", "content"),
        (2, "var/lib/dpkg/info/greeter.list", "mode"),
    ]


def test_the_bill_of_materials_is_valid_spdx(dind: Built, tmp_path: Path) -> None:
    (tmp_path / "dind.spdx.json").write_bytes(sbom.read(dind))
    document = parse_file(str(tmp_path / "dind.spdx.json"))
    assert validate_full_spdx_document(document) == []
    assert len(document.packages) == dind.packages + 1
    assert document.packages[0].version == dind.image_id


def test_package_urls_are_what_scanners_read(dind: Built) -> None:
    packages = {one["name"]: one for one in json.loads(sbom.read(dind))["packages"]}

    def purl(name: str) -> str:
        return str(packages[name]["externalRefs"][0]["referenceLocator"])

    assert purl("libc6").startswith("pkg:deb/debian/libc6@2.41-12%2Bdeb13u")
    assert purl("libc6").endswith("?arch=amd64&distro=debian-13&upstream=glibc")
    assert purl("git-man").split("?")[1] == "arch=all&distro=debian-13&upstream=git"
    assert "@1%3A2.47" in purl("git")
    assert packages["libssl3t64"]["sourceInfo"].startswith("built from openssl 3.")


def test_what_copyright_files_say_is_a_comment_and_no_declaration(dind: Built) -> None:
    packages = {one["name"]: one for one in json.loads(sbom.read(dind))["packages"]}
    assert packages["jq"]["licenseComments"].startswith("/usr/share/doc/jq/copyright names, for the source")
    assert "Expat" in packages["jq"]["licenseComments"]
    assert packages["wget"]["licenseComments"] == "See /usr/share/doc/wget/copyright"
    assert packages["libgcc-s1"]["licenseComments"] == "See /usr/share/doc/gcc-14-base/copyright"
    assert {one["licenseDeclared"] for one in packages.values()} == {"NOASSERTION"}
