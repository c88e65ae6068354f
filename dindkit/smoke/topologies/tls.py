"""A daemon container and a client container on a network of their own, with certificates both ways."""

from __future__ import annotations

from dindkit.errors import EngineError
from dindkit.smoke.context import Node, SmokeContext
from dindkit.smoke.topologies.tcp import ALIAS, SHARED, check_client, pair

#: Makes a key and a certificate request in `folder`.
REQUEST = (
    "mkdir -p {folder} && cd {folder} && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
    " -keyout key.pem -subj /CN=client -out csr.pem"
)
#: Makes a self-signed certificate, of an unknown authority.
FOREIGN = REQUEST + " && openssl req -x509 -key key.pem -subj /CN=client -days 30 -out cert.pem"
#: Makes a certificate of the daemon's own authority; `days` are options of openssl-x509(1).
SIGNED = (
    REQUEST + " && openssl x509 -req -in csr.pem -CA /certs/ca/cert.pem -CAkey /certs/ca/key.pem"
    " {days} -out cert.pem"
)
EXPIRED = "-not_before 20200101000000Z -not_after 20200102000000Z"


def check(context: SmokeContext) -> None:
    """Check that only a client with the right certificate is let in; raises EngineError."""
    environment = {
        "DOCKER_HOST": f"tcp://{ALIAS}:2376",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": "/certs/client",
    }
    with (
        context.volume("certificates") as certificates,
        pair(context, {"DOCKER_TLS_CERTDIR": "/certs"}, environment, certificates) as (daemon, client),
    ):
        check_client(context, daemon, client)
        with context.progress.step("tls: strangers"), context.part("tls: strangers", daemon):
            _check_strangers(daemon, client)


def _check_strangers(daemon: Node, client: Node) -> None:
    """Check that wrong certificates are refused. A fresh one, made like the expired one, is accepted."""
    fresh, foreign, expired = (f"{SHARED}/{kind}" for kind in ("fresh", "foreign", "expired"))
    daemon.call("sh", "-c", SIGNED.format(folder=fresh, days="-days 1"))
    daemon.call("sh", "-c", SIGNED.format(folder=expired, days=EXPIRED))
    client.call("sh", "-c", FOREIGN.format(folder=foreign))
    _ask(client, fresh)
    for kind, folder in {"no": "", "a foreign": foreign, "an expired": expired}.items():
        try:
            _ask(client, folder)
        except EngineError as error:
            if "certificate" not in error.cause:
                raise EngineError(
                    f"A client with {kind} certificate fails, but not for that: {error.cause}"
                ) from error
        else:
            raise EngineError(f"A client with {kind} certificate is let in.")


def _ask(client: Node, folder: str) -> None:
    """Ask the daemon for its version, with the certificate in `folder` or with none."""
    # Without DOCKER_CERT_PATH: otherwise docker takes the good certificate where none is named.
    docker = ["env", "-u", "DOCKER_CERT_PATH", "-u", "DOCKER_TLS_VERIFY", "docker", "--tlsverify"]
    options = [f"--tlscert={folder}/cert.pem", f"--tlskey={folder}/key.pem"] if folder else []
    client.call(*docker, "--tlscacert=/certs/client/ca.pem", *options, "version")
