"""A daemon container and a client container on a network of their own, with certificates both ways."""

from __future__ import annotations

from dindkit.engine.stage import Node, Stage
from dindkit.engine.topologies.tcp import ALIAS, SHARED, converse, pair
from dindkit.errors import EngineError

REQUEST = (
    "mkdir -p {folder} && cd {folder} && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
    " -keyout key.pem -subj /CN=client -out csr.pem"
)
#: A certificate that an authority of nobody's signs, and one of the daemon's own authority from long ago.
FOREIGN = REQUEST + " && openssl req -x509 -key key.pem -subj /CN=client -days 30 -out cert.pem"
EXPIRED = (
    REQUEST + " && openssl x509 -req -in csr.pem -CA /certs/ca/cert.pem -CAkey /certs/ca/key.pem"
    " -not_before 20200101000000Z -not_after 20200102000000Z -out cert.pem"
)


def play(stage: Stage) -> None:
    """Prove it; raises EngineError where a client with the certificate is refused, or another is not."""
    environment = {
        "DOCKER_HOST": f"tcp://{ALIAS}:2376",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": "/certs/client",
    }
    with (
        stage.volume("certificates") as certificates,
        pair(stage, {"DOCKER_TLS_CERTDIR": "/certs"}, environment, certificates) as (daemon, client),
    ):
        converse(stage, daemon, client)
        with stage.progress.step("tls: strangers"), stage.part("tls: strangers", daemon):
            _check_strangers(daemon, client)


def _check_strangers(daemon: Node, client: Node) -> None:
    client.call("sh", "-c", FOREIGN.format(folder=f"{SHARED}/foreign"))
    daemon.call("sh", "-c", EXPIRED.format(folder=f"{SHARED}/expired"))
    pairs = {
        kind: (f"{SHARED}/{kind}/cert.pem", f"{SHARED}/{kind}/key.pem") for kind in ("foreign", "expired")
    }
    for kind, options in {
        "no": [],
        **{kind: [f"--tlscert={cert}", f"--tlskey={key}"] for kind, (cert, key) in pairs.items()},
    }.items():
        _check_refused(client, f"a client with {kind} certificate", options)


def _check_refused(client: Node, who: str, options: list[str]) -> None:
    # Without DOCKER_CERT_PATH, so that the good certificate is not taken where none is named.
    docker = ["env", "-u", "DOCKER_CERT_PATH", "-u", "DOCKER_TLS_VERIFY", "docker", "--tlsverify"]
    authority = "--tlscacert=/certs/client/ca.pem"
    try:
        client.call(*docker, authority, *options, "version", "--format", "{{.Server.Version}}")
    except EngineError as error:
        if "certificate" not in error.cause:
            raise EngineError(f"{who} fails, but not for its certificate: {error.cause}") from error
    else:
        raise EngineError(f"{who} is let in.")
