"""A daemon container and a client container on a network of their own, with certificates both ways."""

from __future__ import annotations

from dindkit.errors import EngineError
from dindkit.smoke.context import Node, SmokeContext
from dindkit.smoke.topologies.tcp import ALIAS, SHARED, check_client, pair

#: What a certificate is made of, in `folder`.
REQUEST = (
    "mkdir -p {folder} && cd {folder} && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
    " -keyout key.pem -subj /CN=client -out csr.pem"
)
#: Signed by an authority of nobody's.
FOREIGN = REQUEST + " && openssl req -x509 -key key.pem -subj /CN=client -days 30 -out cert.pem"
#: Signed by the daemon's own authority; `days` are options of openssl-x509(1).
SIGNED = (
    REQUEST + " && openssl x509 -req -in csr.pem -CA /certs/ca/cert.pem -CAkey /certs/ca/key.pem"
    " {days} -out cert.pem"
)
EXPIRED = "-not_before 20200101000000Z -not_after 20200102000000Z"


def check(context: SmokeContext) -> None:
    """Prove it; raises EngineError where a client with the certificate is refused, or another is not."""
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
    """Let only the right certificate in: a fresh one shows that the expired one lacks nothing but days."""
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
    # Without DOCKER_CERT_PATH, so that the good certificate is not taken where none is named.
    docker = ["env", "-u", "DOCKER_CERT_PATH", "-u", "DOCKER_TLS_VERIFY", "docker", "--tlsverify"]
    options = [f"--tlscert={folder}/cert.pem", f"--tlskey={folder}/key.pem"] if folder else []
    client.call(*docker, "--tlscacert=/certs/client/ca.pem", *options, "version")
