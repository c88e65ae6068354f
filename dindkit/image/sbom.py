"""The bill of materials of an image: SPDX 2.3 as JSON, with the hashes of the lock.

https://spdx.github.io/spdx-spec/v2.3/ and, for package URLs, purl-spec's deb type.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dindkit.errors import ArchiveError
from dindkit.files import check_output, output_file
from dindkit.formats import oci
from dindkit.image import built as built_images
from dindkit.image.build import build
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.build_options import BuildOptions
from dindkit.image.built import Built
from dindkit.packages import copyright as copyright_files
from dindkit.packages import stanza
from dindkit.packages.lock import Row
from dindkit.packages.stanza import Stanza
from dindkit.printing import encodable, json_result
from dindkit.progress import Progress
from dindkit.project import Project

#: Debian's release number by suite, as package URLs name the distribution.
RELEASES = {"bookworm": "12", "trixie": "13", "forky": "14"}

#: Our namespace for uuid5, so that the same image gets the same document.
NAMESPACE = uuid.UUID("5d0d1f5e-6a0c-5a53-9d3c-0a4f1f6f0c6d")

#: `Source: openssl (3.5.7-1)`; the version is there only where it differs from the binary package's.
SOURCE = re.compile(r"(?P<name>\S+)(?: \((?P<version>[^)]+)\))?")

STATUS = "var/lib/dpkg/status"
#: The copyright file of a package.
COPYRIGHT = "/usr/share/doc/{}/copyright"

#: Maintainers with such a name are organizations, not persons.
TEAM = re.compile(r"team|maintainers|developers|group|docker", re.IGNORECASE)


def controls(status: str) -> dict[str, Stanza]:
    """Return the stanzas of dpkg's status file by package."""
    parsed = (stanza.fields(lines) for lines in status.split("\n\n"))
    return {fields["Package"]: fields for fields in parsed if fields}


def _source(control: Mapping[str, str]) -> tuple[str, str]:
    """Return name and version of a package's source."""
    found = SOURCE.match(control.get("Source", ""))
    if not found:
        return control["Package"], control["Version"]
    return found["name"], found["version"] or control["Version"]


def purl(row: Row, control: Mapping[str, str], inputs: BuildInputs) -> str:
    """Return the package URL of `row` as vulnerability scanners read it."""
    archive = inputs.keys.archive(row.archive)
    qualifiers = {"arch": row.architecture}
    source = _source(control)[0]
    if source != row.name:
        qualifiers["upstream"] = source
    if archive.on_request:
        qualifiers["repository_url"] = archive.uris[0]  # Debian's advisories do not cover it
        owner = archive.name
    else:
        suite = inputs.lock.suite
        qualifiers["distro"] = f"debian-{RELEASES.get(suite, suite)}"
        owner = "debian"
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(qualifiers.items()))
    return f"pkg:deb/{owner}/{quote(row.name, safe='')}@{quote(row.version, safe='')}?{text}"


def _id(name: str) -> str:
    return "SPDXRef-Package-" + re.sub(r"[^A-Za-z0-9.-]", lambda found: f"-{ord(found[0]):x}-", name)


def _supplier(control: Mapping[str, str]) -> str:
    """Return Maintainer in SPDX's form, `Person: name (address)`."""
    found = re.fullmatch(r"\s*(.*?)\s*<([^>]*)>\s*", control.get("Maintainer", ""))
    if not found:
        return "NOASSERTION"
    return f"{'Organization' if TEAM.search(found[1]) else 'Person'}: {found[1].strip(chr(34))} ({found[2]})"


def _licence_comments(row: Row, known: Mapping[str, Stanza], copyrights: Mapping[str, str]) -> str:
    """Return what the package's copyright file says; empty where the image has none.

    Debian's short names are not SPDX's, and the file speaks of a whole source package: so nothing is
    declared. Of packages of one source one file may serve for all (Debian Policy 12.5).
    """
    source = _source(known[row.name])
    siblings = (name for name, control in known.items() if name in copyrights and _source(control) == source)
    name = row.name if row.name in copyrights else next(siblings, "")
    if not name:
        return ""
    names = "; ".join(copyright_files.licences(copyrights[name]))
    where = COPYRIGHT.format(name)
    return f"{where} names, for the source package: {names}" if names else f"See {where}"


def _package(
    row: Row, known: Mapping[str, Stanza], copyrights: Mapping[str, str], inputs: BuildInputs
) -> dict[str, Any]:
    control = known[row.name]
    source, version = _source(control)
    archive = inputs.keys.archive(row.archive)
    found = {
        "SPDXID": _id(row.name),
        "name": row.name,
        "versionInfo": row.version,
        "supplier": _supplier(control),
        "downloadLocation": f"{archive.uris[0]}/{quote(row.path, safe='/+~:')}",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": row.sha256}],
        "sourceInfo": f"built from {source} {version}",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "summary": control.get("Description", "").splitlines()[0] if control.get("Description") else "",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl(row, control, inputs),
            }
        ],
    }
    if comments := _licence_comments(row, known, copyrights):
        found["licenseComments"] = comments
    if re.match(r"https?://", control.get("Homepage", "")):
        found["homepage"] = control["Homepage"]
    return found


def render(inputs: BuildInputs, status: str, copyrights: Mapping[str, str], image_id: str) -> bytes:
    """Return the SPDX document of the image.

    `status` is its /var/lib/dpkg/status; `copyrights` has the text of the copyright file of each package.
    """
    known = controls(encodable(status))
    packages = [_package(row, known, copyrights, inputs) for row in sorted(inputs.rows)]
    digest = image_id.removeprefix("sha256:")
    image = {
        "SPDXID": "SPDXRef-Image",
        "name": inputs.tag.partition(":")[0],
        "versionInfo": image_id,
        "supplier": "Organization: dindkit",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "CONTAINER",
    }
    contains = [
        {
            "spdxElementId": "SPDXRef-Image",
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": package["SPDXID"],
        }
        for package in packages
    ]
    describes = {
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-Image",
    }
    return oci.document(
        {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": inputs.tag,
            "documentNamespace": f"urn:uuid:{uuid.uuid5(NAMESPACE, image_id)}",
            "creationInfo": {
                "created": oci.timestamp(inputs.epoch),
                "creators": ["Tool: dindkit", "Organization: dindkit"],
            },
            "packages": [image, *packages],
            "relationships": [describes, *contains],
        }
    )


def read(built: Built) -> bytes:
    """Return the SPDX document of a built image, made from its lock and its own dpkg database.

    Raises DamagedError where a layer is not the one that was built, ArchiveError where none has a database.
    """
    files = {COPYRIGHT.format(row.name).lstrip("/"): row.name for row in built.inputs.rows}
    with built_images.opened(built) as archive:
        found = archive.contents(lambda name: name in files or name == STATUS)
    if STATUS not in found:
        raise ArchiveError(f"The image has no {STATUS!r} in its layers.")
    texts = {name: content.decode("utf-8", "surrogateescape") for name, content in found.items()}
    copyrights = {files[name]: encodable(text) for name, text in texts.items() if name in files}
    return render(built.inputs, texts[STATUS], copyrights, built.image_id)


def run(project: Project, options: BuildOptions, progress: Progress, output: Path | None) -> None:
    """Print the SPDX document of the image that `options` names, or write it to `output`.

    Raises DindkitError and OSError, before anything is built where `output` cannot be written.
    """
    if output:
        check_output(output)
    document = read(build(project, options, progress))
    if output:
        with output_file(output) as file:
            file.write(document)
    else:
        json_result(document.decode())
