"""Clients that verify strictly (RFC 5280): OpenSSL's -x509_strict, and Debian's own Python."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.engine.dind import Containers, Dind
from tests.support.suites import apt_settings

pytestmark = pytest.mark.engine

#: As a library for Docker connects, with what Python takes for secure by itself.
PYTHON = """
import http.client, ssl
context = ssl.create_default_context(cafile="/certs/client/ca.pem")
assert context.verify_flags & ssl.VERIFY_X509_STRICT
context.load_cert_chain("/certs/client/cert.pem", "/certs/client/key.pem")
connection = http.client.HTTPSConnection("localhost", 2376, context=context)
connection.request("GET", "/_ping")
print(connection.getresponse().read().decode())
"""

STRICT = "cd /certs && openssl verify -x509_strict -CAfile {ca} {ca} server/cert.pem client/cert.pem"

#: An authority without keyUsage, as earlier images made theirs and docker:dind makes its own.
OLD = """
    mkdir /certs/ca && cd /certs/ca
    openssl req -x509 -newkey {key} -noenc -keyout key.pem -out cert.pem -subj '/CN={name}' 2>/dev/null
    cp cert.pem /certs/old.pem
    {more}
"""


def old(
    containers: Containers,
    key: str = "ec -pkeyopt ec_paramgen_curve:P-256",
    name: str = "docker:dind CA",
    more: str = "",
) -> str:
    """Return the name of a volume for /certs with an authority in it."""
    volume = str(containers.volume().name)
    script = OLD.format(key=key, name=name, more=more)
    code, output, _ = containers.answer(
        "sh", "-ec", script, privileged=False, volumes={volume: {"bind": "/certs"}}
    )
    assert code == 0, output
    return volume


#: The image has no Python; Debian's comes from its archive.
INSTALL = """
    { apt-get update && apt-get install --yes --no-install-recommends python3; } >/tmp/apt.log 2>&1 ||
        { cat /tmp/apt.log; exit 1; }
"""


@pytest.fixture(scope="module")
def with_python(shared_containers: Containers) -> Iterator[str]:
    """Make an image with Python as a client, on top of the one under test."""
    container = shared_containers.start("sleep", "infinity", privileged=False, files=apt_settings())
    container(INSTALL)
    image = container.container.commit(
        f"dindkit-test/python-{secrets.token_hex(4)}",
        conf={"Cmd": [], "Entrypoint": ["dockerd-entrypoint.sh"]},
    )
    yield str(image.id)
    shared_containers.clear()
    shared_containers.engine.client.images.remove(str(image.id), force=True)


@pytest.fixture(scope="module")
def daemon(shared_containers: Containers, with_python: str) -> Dind:
    return shared_containers.daemon(image=with_python)


def python(dind: Dind, user: str = "") -> tuple[int, str]:
    return dind.run("python3", "-c", PYTHON, user=user)


def test_all_that_is_made_is_accepted(daemon: Dind) -> None:
    for ca in ("ca/cert.pem", "server/ca.pem", "client/ca.pem"):
        daemon(STRICT.format(ca=ca))
    text = daemon("openssl x509 -in /certs/ca/cert.pem -noout -ext keyUsage,basicConstraints")
    assert text.count("critical") == 2
    assert "Digital Signature, Certificate Sign" in text


@pytest.mark.parametrize("user", ["root", "1000"])
def test_debians_python_connects(daemon: Dind, user: str) -> None:
    assert python(daemon, user) == (0, "OK")


@pytest.mark.parametrize("key", ["ec -pkeyopt ec_paramgen_curve:P-256", "rsa:2048"])
def test_an_authority_of_ours_is_signed_anew_with_its_key(
    containers: Containers, with_python: str, key: str
) -> None:
    """So that clients which trust the old one go on to trust what the new one signs."""
    dind = containers.daemon(image=with_python, volumes={old(containers, key): {"bind": "/certs"}})
    pubkey = "openssl x509 -noout -pubkey -in /certs/"
    assert dind(f"{pubkey}old.pem") == dind(f"{pubkey}ca/cert.pem")
    dind(STRICT.format(ca="ca/cert.pem"))
    dind("openssl verify -CAfile /certs/old.pem /certs/server/cert.pem /certs/client/cert.pem")
    assert python(dind) == (0, "OK")
    before = dind("sha256sum /certs/ca/cert.pem")
    dind.container.restart()
    assert dind.ready()("sha256sum /certs/ca/cert.pem") == before


def test_an_authority_of_the_users_stays_and_is_warned_of(containers: Containers, with_python: str) -> None:
    volume = old(containers, name="mine")
    dind = containers.daemon(image=with_python, volumes={volume: {"bind": "/certs"}})
    dind("cmp /certs/old.pem /certs/ca/cert.pem")
    (warning,) = (line for line in dind.said() if "warning" in line)
    assert "verify strictly" in warning
    assert "no keyUsage with keyCertSign" in warning
    assert python(dind)[0] == 1
    dind("docker --tlsverify --tlscacert /certs/client/ca.pem --tlscert /certs/client/cert.pem "
         "--tlskey /certs/client/key.pem -H tcp://localhost:2376 version")  # fmt: skip


def test_an_authority_of_ours_that_cannot_be_written_is_warned_of(containers: Containers) -> None:
    volume = old(containers, more="mv /certs/ca/* /certs; rm -r /certs/ca /certs/client /certs/old.pem")
    dind = containers.daemon(volumes={volume: {"bind": "/certs/ca", "mode": "ro"}})
    (warning,) = (line for line in dind.said() if "warning" in line)
    assert "verify strictly" in warning


def test_certificates_of_the_users_are_warned_of(containers: Containers) -> None:
    sign = "openssl x509 -req -CA ca/cert.pem -CAkey ca/key.pem -extfile /dev/stdin -out server/cert.pem"
    more = f"""
        cd /certs && mkdir server && cp ca/cert.pem server/ca.pem
        openssl req -new -newkey rsa:2048 -noenc -keyout server/key.pem -subj /CN=x 2>/dev/null >x.csr
        echo subjectAltName=DNS:localhost | {sign} -in x.csr 2>/dev/null
        rm -r ca
    """
    dind = containers.daemon(volumes={old(containers, name="mine", more=more): {"bind": "/certs"}})
    (warning,) = (line for line in dind.said() if "warning" in line)
    assert "verify strictly" in warning
    assert "/certs/server/cert.pem" in warning


def test_an_authority_without_a_key_identifier_signs_all_the_same(containers: Containers) -> None:
    more = """
        printf 'basicConstraints = critical, CA:true\\nsubjectKeyIdentifier = none' >ext
        openssl x509 -in cert.pem -signkey key.pem -clrext -extfile ext -out bare.pem && mv bare.pem cert.pem
    """
    dind = containers.daemon(volumes={old(containers, name="mine", more=more): {"bind": "/certs"}})
    assert "Subject Key Identifier" not in dind("openssl x509 -in /certs/ca/cert.pem -noout -text")
    dind("openssl verify -CAfile /certs/ca/cert.pem /certs/server/cert.pem /certs/client/cert.pem")
