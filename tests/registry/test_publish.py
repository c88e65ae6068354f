"""What arrives in a registry is what was in the archive, once."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from dindkit.errors import DindkitError, TrustError, UnavailableError
from dindkit.formats import oci
from dindkit.formats.oci import document
from dindkit.progress import Progress
from dindkit.registry import client
from dindkit.registry.client import Repository
from dindkit.registry.publish import Image, publish
from dindkit.registry.reference import parse
from tests.registry.conftest import PASSWORD, USER, StartRegistry, log_in, make_image, push
from tests.support.registry import free_port


def pull(host: str, folder: Path, *options: str, name: str = "team/dind:trixie") -> dict[str, Any]:
    """Copy the image out with skopeo, and return the manifest of this machine's architecture."""
    words = ["skopeo", "copy", "--override-arch=amd64", "--src-tls-verify=false", *options]
    subprocess.run([*words, f"docker://{host}/{name}", f"dir:{folder}"], check=True, capture_output=True)
    return dict(json.loads((folder / "manifest.json").read_bytes()))


def test_what_is_pulled_is_what_was_pushed(
    start_registry: StartRegistry, tmp_path: Path, image: Image
) -> None:
    server = start_registry()
    pushed = push(server.host, image)
    manifest = pull(server.host, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == document(image.archive.image.manifest)
    for entry in (manifest["config"], *manifest["layers"]):
        blob = (tmp_path / "out" / entry["digest"].removeprefix("sha256:")).read_bytes()
        assert f"sha256:{hashlib.sha256(blob).hexdigest()}" == entry["digest"]
    assert (pushed.sent, pushed.skipped) == (3, 0)
    index = requests.get(
        f"http://{server.host}/v2/team/dind/manifests/trixie", headers={"Accept": oci.INDEX}, timeout=9
    )
    assert index.headers["Docker-Content-Digest"] == pushed.digest


def test_a_second_push_uploads_nothing(start_registry: StartRegistry, image: Image) -> None:
    server = start_registry()
    first = push(server.host, image)
    before = len(server.requests())
    second = push(server.host, image)
    assert second.digest == first.digest
    assert (second.sent, second.skipped) == (0, 3)
    assert not [line for line in server.requests()[before:] if "/blobs/uploads/" in line]


def test_gzip_layers_hold_the_same_tars_and_have_one_digest(
    start_registry: StartRegistry, tmp_path: Path, image: Image
) -> None:
    server = start_registry()
    first = push(server.host, image, compression="gzip")
    manifest = pull(server.host, tmp_path / "out")
    diff_ids = [one.diff_id for one in image.archive.image.layers]
    for entry, diff_id in zip(manifest["layers"], diff_ids, strict=True):
        assert entry["mediaType"].endswith("tar+gzip")
        blob = (tmp_path / "out" / entry["digest"].removeprefix("sha256:")).read_bytes()
        assert blob[:10] == bytes.fromhex("1f8b08000000000000ff")
        assert f"sha256:{hashlib.sha256(gzip.decompress(blob)).hexdigest()}" == diff_id
    again = push(server.host, image, compression="gzip")
    assert (again.digest, again.sent) == (first.digest, 0)


def test_one_index_names_every_architecture(start_registry: StartRegistry, tmp_path: Path) -> None:
    server = start_registry()
    both = push(server.host, make_image(tmp_path, "arm64"), make_image(tmp_path, "amd64"), name="team/both:1")
    push(server.host, make_image(tmp_path, "amd64"), name="team/joined:1")
    joined = push(server.host, make_image(tmp_path, "arm64"), name="team/joined:1", join=True)
    assert joined.digest == both.digest
    alone = push(server.host, make_image(tmp_path, "arm64"), name="team/joined:1")
    assert alone.digest != both.digest
    words = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{server.host}/team/both:1"]
    index = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    assert [entry["platform"] for entry in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
    ]


def test_two_images_of_one_architecture_are_refused_before_anything_is_sent(
    start_registry: StartRegistry, tmp_path: Path
) -> None:
    server = start_registry()
    with pytest.raises(DindkitError, match="Two images are for linux/amd64"):
        push(server.host, make_image(tmp_path), make_image(tmp_path, content="other\n"))
    assert [line for line in server.requests() if line.startswith(("POST", "PUT"))] == []


def test_the_sbom_is_a_referrer_of_the_manifest(start_registry: StartRegistry, image: Image) -> None:
    server = start_registry()
    push(server.host, image)
    push(server.host, image)
    base = f"http://{server.host}/v2/team/dind"
    subject = f"sha256:{hashlib.sha256(document(image.archive.image.manifest)).hexdigest()}"
    index = requests.get(
        f"{base}/manifests/{subject.replace(':', '-')}", headers={"Accept": oci.INDEX}, timeout=9
    )
    (entry,) = index.json()["manifests"]
    assert entry["artifactType"] == "application/spdx+json"
    manifest = requests.get(
        f"{base}/manifests/{entry['digest']}", headers={"Accept": oci.MANIFEST}, timeout=9
    ).json()
    assert manifest["subject"]["digest"] == subject
    assert requests.get(f"{base}/blobs/{manifest['layers'][0]['digest']}", timeout=9).content == image.sbom


def test_htpasswd_with_the_login_of_docker(
    start_registry: StartRegistry, docker_config: Path, tmp_path: Path, image: Image
) -> None:
    server = start_registry(users=True)
    log_in(docker_config, server.host)
    assert push(server.host, image).sent == 3
    assert pull(server.host, tmp_path / "out", f"--src-creds={USER}:{PASSWORD}")["layers"]


@pytest.mark.parametrize(
    ("password", "cause"), [("wrong", "refused the credentials"), ("", "wants credentials")]
)
def test_a_wrong_or_missing_password_is_one_sentence(
    start_registry: StartRegistry, docker_config: Path, password: str, cause: str, image: Image
) -> None:
    server = start_registry(users=True)
    if password:
        log_in(docker_config, server.host, password)
    with pytest.raises(DindkitError) as caught:
        push(server.host, image)
    assert str(caught.value) == f"{server.host} {cause} for team/dind. Run: docker login {server.host}"


def test_netrc_is_not_asked(
    start_registry: StartRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Image
) -> None:
    server = start_registry(users=True)
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(DindkitError, match="wants credentials"):
        push(server.host, image)


def test_tls_with_a_known_and_an_unknown_authority(
    start_registry: StartRegistry, monkeypatch: pytest.MonkeyPatch, image: Image
) -> None:
    server = start_registry(tls=True)
    with pytest.raises(TrustError, match="certificate is not trusted") as caught:
        push(server.host, image)
    assert f"/etc/docker/certs.d/{server.host}/ca.crt" in str(caught.value)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
    assert push(server.host, image).sent == 3


def test_the_authority_that_docker_knows_comes_before_that_of_the_environment(
    start_registry: StartRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Image
) -> None:
    server, other = start_registry(tls=True), start_registry(tls=True)
    folder = tmp_path / "certs.d" / server.host
    folder.mkdir(parents=True)
    monkeypatch.setattr(client, "CERTIFICATES", folder.parent)
    shutil.copy(server.certificate, folder / "ca.crt")
    assert push(server.host, image).sent == 3
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.certificate))
    assert push(server.host, image, name="team/again:1").sent == 3
    shutil.copy(other.certificate, folder / "ca.crt")
    with pytest.raises(TrustError, match="certificate is not trusted"):
        push(server.host, image)


def test_nothing_listens(image: Image) -> None:
    host = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError, match="cannot be reached: Connection refused"):
        push(host, image)


def test_plain_http_is_for_loopback_only(
    start_registry: StartRegistry, monkeypatch: pytest.MonkeyPatch, image: Image
) -> None:
    server = start_registry()
    monkeypatch.setattr(client, "is_loopback", lambda host: False)
    with pytest.raises(TrustError, match=r"The TLS connection to .* failed"):
        push(server.host, image)
    repository = Repository(parse(f"{server.host}/team/dind:trixie"), insecure=True)
    assert publish([image], repository, Progress(quiet=True)).sent == 3


def test_references() -> None:
    assert str(parse("localhost/a/b")) == "localhost/a/b:latest"
    assert str(parse("[::1]:5000/a:b")) == "[::1]:5000/a:b"
    for bad in (
        "dind",
        "me/dind:1",
        "host.example/Up:1",
        "host.example/a:",
        "host.example/a@sha256:00",
        "h.x/",
    ):
        with pytest.raises(DindkitError, match=r"HOST/REPOSITORY:TAG|digest"):
            parse(bad)
