"""The contract's second part: arguments and environment, as compose files and CI templates use them."""

from __future__ import annotations

import datetime
import re

import pytest

from dindkit.engine.discover import Engine
from tests.engine.dind import Containers, Dind

pytestmark = pytest.mark.engine

VERSION = ("docker", "version", "--format", "{{.Server.Version}}")


def arguments(dind: Dind) -> list[str]:
    """Return the words that dockerd was started with."""
    return dind("tr '\\0' '\\n' <\"/proc/$(cat /var/run/docker.pid)/cmdline\"").split("\n")


def listening(dind: Dind) -> set[str]:
    """Return where the daemon listens: ports, and paths of sockets, but for those that it has for itself."""
    found = dind("ss -lntxpH | grep '\"dockerd\"' | awk '{print $5}'").split()
    names = {name.rpartition(":")[2] if name[0] in "*[0" else name for name in found}
    return {name for name in names if not re.search("/(metrics|libnetwork|containerd)", name)}


def certificate(dind: Dind, name: str) -> str:
    return dind(f"openssl x509 -in /certs/{name}/cert.pem -noout -text")


def key(dind: Dind, name: str) -> str:
    return dind(f"sha256sum </certs/{name}/key.pem")


@pytest.fixture(scope="module")
def network(shared_containers: Containers) -> str:
    return str(shared_containers.network().name)


@pytest.fixture(scope="module")
def docker(shared_containers: Containers, network: str) -> Dind:
    """Start a daemon called `docker`, its client's certificates in a volume, as GitLab and compose do."""
    return shared_containers.daemon(
        hostname="builder",
        network=network,
        networking_config=named_docker(shared_containers, network),
        environment={"DOCKER_TLS_SAN": "DNS:extra.example,IP:10.9.8.7,bare.example.,10.1.2.3,fd00::7"},
        volumes={shared_containers.volume().name: {"bind": "/certs/client"}},
    )


def named_docker(containers: Containers, network: str) -> dict[str, object]:
    return {network: containers.engine.client.api.create_endpoint_config(aliases=["docker"])}


class TestByDefault:
    def test_listens_with_tls_on_2376_alone(self, docker: Dind) -> None:
        assert listening(docker) == {"/var/run/docker.sock", "2376"}
        assert "--tlsverify" in arguments(docker)
        assert docker.run("curl", "-s", "http://localhost:2375/_ping")[0] == 7

    def test_says_so_in_one_line(self, docker: Dind) -> None:
        (line,) = (line for line in docker.said() if "listening" in line)
        assert "tcp://0.0.0.0:2376" in line
        assert "DNS:builder" in line
        assert "client certificates" in line

    def test_refuses_clients_without_a_certificate(self, docker: Dind) -> None:
        assert docker.run("curl", "-sk", "https://localhost:2376/_ping")[0] != 0

    def test_files(self, docker: Dind) -> None:
        found = docker("cd /certs && find . -type f | sort").split()
        pair = ["ca.pem", "cert.pem", "csr.pem", "key.pem"]
        expected = [
            "./ca/cert.pem",
            "./ca/key.pem",
            *(f"./{side}/{n}" for side in ("client", "server") for n in pair),
        ]
        assert found == sorted(expected)
        assert docker("stat -c %a /certs/ca/key.pem /certs/server/key.pem").split() == ["600", "600"]

    def test_other_users_read_the_clients_key(self, docker: Dind) -> None:
        assert docker.run("cat", "/certs/client/key.pem", user="1000")[0] == 0

    def test_certificates(self, docker: Dind) -> None:
        for name, common in (("ca", "CA"), ("server", "server"), ("client", "client")):
            text = certificate(docker, name)
            assert f"Subject: CN=docker:dind {common}" in text
            assert "prime256v1" in text
            dates = docker(f"openssl x509 -in /certs/{name}/cert.pem -noout -dates -dateopt iso_8601").split()
            begin, end = (datetime.date.fromisoformat(date.partition("=")[2]) for date in dates[::2])
            assert (end - begin).days == 825
        assert "TLS Web Client Authentication" in certificate(docker, "client")
        docker("openssl verify -CAfile /certs/client/ca.pem /certs/server/cert.pem /certs/client/cert.pem")

    def test_names_of_the_server(self, docker: Dind) -> None:
        text = certificate(docker, "server")
        assert "TLS Web Server Authentication" in text
        for name in ("builder", "docker", "localhost", "extra.example", "bare.example"):
            assert f"DNS:{name}," in text.replace("\n", ",")
        for address in ("127.0.0.1", "10.9.8.7", "10.1.2.3", "FD00:0:0:0:0:0:0:7", docker.address):
            assert f"IP Address:{address}," in text.replace("\n", ",")

    def test_client_of_the_same_image_needs_the_volume_and_nothing_else(
        self, shared_containers: Containers, docker: Dind, network: str
    ) -> None:
        volume = next(
            m["Name"] for m in docker.container.attrs["Mounts"] if m["Destination"] == "/certs/client"
        )
        for environment in ({}, {"DOCKER_HOST": "tcp://docker:2376"}):
            code, output, _ = shared_containers.answer(
                *VERSION,
                privileged=False,
                network=network,
                environment=environment,
                volumes={volume: {"bind": "/certs/client", "mode": "ro"}},
            )
            assert (code, output.strip()) == (0, docker("docker version -f '{{.Server.Version}}'"))

    def test_a_restart_keeps_the_keys_and_renews_the_rest(self, docker: Dind) -> None:
        before = [key(docker, name) for name in ("ca", "server", "client")]
        serial = docker("openssl x509 -in /certs/server/cert.pem -noout -serial")
        docker.container.restart()
        docker.ready()
        assert [key(docker, name) for name in ("ca", "server", "client")] == before
        assert docker("openssl x509 -in /certs/server/cert.pem -noout -serial") != serial


class TestWithoutTls:
    def test_empty_folder_means_2375_alone_and_at_once(self, containers: Containers) -> None:
        network = str(containers.network().name)
        docker = containers.daemon(
            environment={"DOCKER_TLS_CERTDIR": "", "DOCKER_TLS_VERIFY": "1"},
            network=network,
            networking_config=named_docker(containers, network),
        )
        assert docker("curl -s http://localhost:2375/_ping") == "OK"
        assert docker.run("curl", "-sk", "https://localhost:2376/_ping")[0] == 7
        assert "--tls=false" in arguments(docker)
        assert "intentionally being slowed down" not in docker.log()
        assert docker.run("sh", "-c", "ls /certs/ca")[0] != 0
        code, output, _ = containers.answer(
            *VERSION, privileged=False, network=network, environment={"DOCKER_TLS_CERTDIR": ""}
        )
        assert (code, output.strip()) == (
            0,
            docker("unset DOCKER_TLS_VERIFY; " + " ".join(map(repr, VERSION))),
        )

    def test_as_an_argument(self, containers: Containers) -> None:
        docker = containers.daemon("--tls=false")
        assert docker("curl -s http://localhost:2375/_ping") == "OK"


def test_more_hosts_as_arguments(containers: Containers) -> None:
    hosts = ("--host", "tcp://0.0.0.0:2375", "-Htcp://0.0.0.0:12376", "-H", "tcp://0.0.0.0:12377")
    docker = containers.daemon(*hosts, "--label=a=b")
    client = "docker --tlsverify --tlscacert /certs/client/ca.pem --tlscert /certs/client/cert.pem "
    client += "--tlskey /certs/client/key.pem -H tcp://localhost"
    for port in (2375, 2376, 12376, 12377):
        assert "a=b" in docker(f"{client}:{port} info -f '{{{{.Labels}}}}'")
    assert docker("wc -l </run/dind/listeners") == "5"


@pytest.mark.parametrize(
    ("option", "host", "folder", "listener"),
    [
        ("-H", "tcp://127.0.0.1:2375", "", "tcp://127.0.0.1:2375"),
        ("--host", "tcp://0.0.0.0:2376", "/certs", "tcp://0.0.0.0:2376 tls"),
    ],
)
def test_a_port_of_the_default_is_the_users(
    containers: Containers, option: str, host: str, folder: str, listener: str
) -> None:
    """docker:dind names it twice, and dockerd cannot bind it twice."""
    docker = containers.daemon(option, host, environment={"DOCKER_TLS_CERTDIR": folder})
    assert sorted(docker("cat /run/dind/listeners").splitlines()) == [listener, "unix:///var/run/docker.sock"]


def test_docker_host_moves_the_daemons_socket_and_nothing_else(containers: Containers) -> None:
    docker = containers.daemon(environment={"DOCKER_HOST": "unix:///run/other.sock"})
    assert docker("docker version -f '{{.Server.Os}}'") == "linux"
    assert docker.run("test", "-e", "/var/run/docker.sock")[0] != 0
    docker = containers.daemon(environment={"DOCKER_HOST": "tcp://elsewhere:2376"})
    assert listening(docker) == {"/var/run/docker.sock", "2376"}


class TestDockerdAsTheCommand:
    def test_gets_no_host_and_no_tls(self, containers: Containers) -> None:
        docker = containers.daemon("dockerd", "--host=unix:///var/run/docker.sock", "--group=1234")
        assert listening(docker) == {"/var/run/docker.sock"}
        assert not [word for word in arguments(docker) if "tls" in word]
        assert docker("stat -c %g /var/run/docker.sock") == "1234"

    def test_is_looked_after_all_the_same(self, containers: Containers) -> None:
        """The init, the choice of iptables, leftovers: as with no command at all."""
        docker = containers.create("dockerd", files={"/var/run/docker.pid": "1"}).start().ready()
        assert "init" in docker("cat /proc/1/cmdline")
        assert any("iptables:" in line for line in docker.said())
        assert docker.stop()[0] == 0


class TestCertificatesOfTheUsers:
    MAKE = """
        cd /certs && mkdir -p own server client
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout own/key.pem \
            -out own/cert.pem -subj '/CN=mine' 2>/dev/null
        for side in server client; do
            openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout $side/key.pem \
                -subj "/CN=my $side" 2>/dev/null |
            openssl x509 -req -CA own/cert.pem -CAkey own/key.pem -out $side/cert.pem 2>/dev/null \
                -extfile /run/names
            cp own/cert.pem $side/ca.pem
        done
    """

    def prepared(self, containers: Containers, script: str, names: str = "DNS:localhost") -> str:
        """Return the name of a volume for /certs, filled by a script; the certificates have `names`."""
        volume = str(containers.volume().name)
        code, output, _ = containers.answer(
            "sh",
            "-ec",
            f"echo subjectAltName={names} >/run/names;{script}",
            privileged=False,
            volumes={volume: {"bind": "/certs"}},
        )
        assert code == 0, output
        return volume

    def test_are_used_as_they_are(self, containers: Containers) -> None:
        volume = self.prepared(containers, self.MAKE)
        docker = containers.daemon(volumes={volume: {"bind": "/certs"}})
        assert "CN=my server" in certificate(docker, "server")
        assert "CN=my client" in certificate(docker, "client")
        docker(
            "cd /certs/client && "
            "curl -sf --cacert ca.pem --cert cert.pem --key key.pem https://localhost:2376/_ping"
        )

    def test_need_not_name_the_container(self, containers: Containers) -> None:
        """Whether the daemon answers is the health check's question, and not who it is."""
        volume = self.prepared(containers, self.MAKE, "DNS:docker.example")
        docker = containers.daemon(volumes={volume: {"bind": "/certs"}})
        assert "DNS:docker.example" in certificate(docker, "server")

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            ("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout /dev/null "
             "-out server/ca.pem -subj /CN=other 2>/dev/null", "is not signed by"),
            ("cp client/key.pem server/key.pem", "do not belong together"),
            ("rm -r server client; mkdir ca; mv own/cert.pem ca/", "is there without its key"),
        ],
    )  # fmt: skip
    def test_that_cannot_work_are_refused_at_once(
        self, containers: Containers, spoil: str, says: str
    ) -> None:
        volume = self.prepared(containers, f"{self.MAKE}\n{spoil}")
        code, output, seconds = containers.answer(volumes={volume: {"bind": "/certs"}})
        assert code == 1
        assert says in output
        assert seconds < 10
        assert len([line for line in output.splitlines() if "dind: error:" in line]) == 1

    def test_a_ca_of_the_users_signs(self, containers: Containers) -> None:
        volume = self.prepared(containers, f"{self.MAKE}\nrm -r server client; mv own ca")
        docker = containers.daemon(volumes={volume: {"bind": "/certs"}})
        assert "CN=mine" in certificate(docker, "ca")
        docker("openssl verify -CAfile /certs/ca/cert.pem /certs/server/cert.pem")

    def test_a_ca_that_cannot_be_written_to_is_enough(self, containers: Containers) -> None:
        """As a Kubernetes secret is mounted."""
        volume = self.prepared(containers, f"{self.MAKE}\nmv own/* ./; rm -r own server client")
        docker = containers.daemon(volumes={volume: {"bind": "/certs/ca", "mode": "ro"}})
        docker("openssl verify -CAfile /certs/ca/cert.pem /certs/server/cert.pem")

    def test_rsa_keys_that_exist_are_kept(self, containers: Containers) -> None:
        volume = self.prepared(
            containers, "mkdir -p /certs/server; openssl genrsa -out /certs/server/key.pem 2048"
        )
        docker = containers.daemon(volumes={volume: {"bind": "/certs"}})
        assert "rsaEncryption" in certificate(docker, "server")


def test_proxies_and_dockerds_own_variables_pass_through(containers: Containers, engine: Engine) -> None:
    proxy = "http://proxy.example:3128"
    given = {
        "HTTP_PROXY": proxy,
        "HTTPS_PROXY": proxy,
        "http_proxy": proxy,
        "https_proxy": proxy,
        "DOCKER_DRIVER": "vfs",
        "DOCKER_TMPDIR": "/var/lib/docker/parts",
        "DOCKER_RAMDISK": "yes",
        "DOCKER_MIN_API_VERSION": "1.25",
    }
    docker = containers.daemon(environment=given)  # ready, so the health check asks no proxy
    assert docker("docker info -f '{{.HTTPProxy}} {{.Driver}}'") == f"{proxy} vfs"
    seen = docker('tr "\\0" "\\n" <"/proc/$(cat /var/run/docker.pid)/environ"').splitlines()
    assert {f"{name}={value}" for name, value in given.items()} <= set(seen)
