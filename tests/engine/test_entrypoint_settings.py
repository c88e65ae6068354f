"""Settings by environment, merged with daemon.json and with arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.engine.dind import Containers, Dind, until
from tests.support.small_image import small_image

pytestmark = pytest.mark.engine

MTU = "com.docker.network.driver.mtu"
SETTINGS = {
    "DIND_REGISTRY_MIRRORS": "http://mirror-a.example:5000,\n\thttps://mirror-b.example\n",
    "DIND_INSECURE_REGISTRIES": "registry.example:5000 10.99.0.0/16",
    "DIND_MTU": "1312",
    "DIND_DNS": "10.1.1.1,10.1.1.2",
    "DIND_DEFAULT_ADDRESS_POOLS": "base=10.201.0.0/16,size=24 base=10.202.0.0/16,size=26",
    "DIND_STORAGE_DRIVER": "vfs",
    "DIND_LOG_LEVEL": "debug",
    "DIND_DATA_ROOT": "/var/lib/docker/else where",
}


def info(dind: Dind) -> dict[str, object]:
    found = json.loads(dind("docker info -f '{{json .}}'"))
    assert isinstance(found, dict)
    return found


def options(dind: Dind, network: str) -> dict[str, str]:
    """Return the options of a nested network."""
    return dict(json.loads(dind(f"docker network inspect {network} -f '{{{{json .Options}}}}'")))


def test_each_takes_effect(containers: Containers) -> None:
    dind = containers.daemon(environment=SETTINGS).load(containers.base)
    found = info(dind)
    registries = found["RegistryConfig"]
    assert isinstance(registries, dict)
    assert registries["Mirrors"] == ["http://mirror-a.example:5000/", "https://mirror-b.example/"]
    assert "10.99.0.0/16" in registries["InsecureRegistryCIDRs"]
    assert registries["IndexConfigs"]["registry.example:5000"]["Secure"] is False
    assert found["Driver"] == "vfs"
    assert found["DockerRootDir"] == "/var/lib/docker/else where"
    assert found["DefaultAddressPools"] == [
        {"Base": "10.201.0.0/16", "Size": 24},
        {"Base": "10.202.0.0/16", "Size": 26},
    ]
    assert "level=debug" in dind.log()
    show = "cat /sys/class/net/eth0/mtu; grep ^nameserver /etc/resolv.conf"
    assert dind.nested(show).split() == ["1312", "nameserver", "10.1.1.1", "nameserver", "10.1.1.2"]
    dind("docker network create own")
    assert dind.nested("cat /sys/class/net/eth0/mtu", "--network=own") == "1312"


def test_the_file_is_kept_and_added_to(containers: Containers) -> None:
    """Lists are joined, ours first; of two single values the environment's holds; the rest stays."""
    file = {
        "registry-mirrors": ["http://mirror-c.example"],
        "mtu": 1200,
        "labels": ["from=file"],
        "default-network-opts": {
            "bridge": {MTU: "1210", "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}
        },
    }
    dind = containers.daemon(environment=SETTINGS, files={"/etc/docker/daemon.json": json.dumps(file)})
    found = info(dind)
    registries = found["RegistryConfig"]
    assert isinstance(registries, dict)
    assert registries["Mirrors"][-1] == "http://mirror-c.example/"
    assert len(registries["Mirrors"]) == 3
    assert found["Labels"] == ["from=file"]
    assert options(dind, "bridge")[MTU] == "1312"
    dind("docker network create own")
    assert options(dind, "own") == {MTU: "1312", "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}
    assert json.loads(dind("cat /etc/docker/daemon.json")) == file


def test_arguments_hold_over_the_environment(containers: Containers) -> None:
    arguments = ["--mtu=1280", "--registry-mirror", "http://argument.example", "-s", "overlay2", "-l=info"]
    dind = containers.daemon(*arguments, environment=SETTINGS)
    found = info(dind)
    assert found["Driver"] == "overlay2"
    assert isinstance(found["RegistryConfig"], dict)
    assert found["RegistryConfig"]["Mirrors"] == ["http://argument.example/"]
    dind("docker network create own")
    assert [options(dind, name)[MTU] for name in ("bridge", "own")] == ["1280", "1280"]
    assert "level=debug" not in dind.log()


def test_hosts_and_tls_in_the_file_are_not_named_twice(containers: Containers) -> None:
    file = {"hosts": ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2380"], "tls": False}
    dind = containers.daemon(files={"/etc/docker/daemon.json": json.dumps(file)})
    assert dind("curl -s http://127.0.0.1:2380/_ping") == "OK"
    assert dind("cat /run/dind/listeners").split() == file["hosts"]


#: What `with_certificates` makes: a key, and a certificate that signs itself.
KEY, CERT = "/run/own/key.pem", "/run/own/cert.pem"


def with_certificates(containers: Containers, file: Mapping[str, object]) -> Dind:
    """Start a daemon with a daemon.json that names certificates of the user's own."""
    prepare = f"""
        mkdir /run/own
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout {KEY} -out {CERT} \
            -subj /CN=own -addext subjectAltName=DNS:localhost 2>/dev/null
        exec dockerd-entrypoint.sh "$@"
    """
    return containers.daemon(
        entrypoint=["sh", "-ec", prepare, "sh"], files={"/etc/docker/daemon.json": json.dumps(file)}
    )


def test_tls_in_the_file(containers: Containers) -> None:
    """A file that names its own certificates keeps them."""
    dind = with_certificates(containers, {"tls": True, "tlsverify": False, "tlscert": CERT, "tlskey": KEY})
    assert dind(f"curl -s --cacert {CERT} https://localhost:2376/_ping") == "OK"


def test_no_tls_in_the_file(containers: Containers) -> None:
    """As `--tls=false`: the port without TLS, and a line that says so."""
    dind = containers.daemon(files={"/etc/docker/daemon.json": '{"tls": false}'})
    assert dind("curl -s http://127.0.0.1:2375/_ping") == "OK"
    assert any("2375 without TLS" in line for line in dind.said())


def test_certificates_alone_in_the_file_are_used(containers: Containers) -> None:
    dind = with_certificates(containers, {"tlscacert": CERT, "tlscert": CERT, "tlskey": KEY})
    assert dind.run("curl", "-s", "http://localhost:2376/_ping")[1] != "OK"
    assert dind.run("curl", "-sk", "https://localhost:2376/_ping")[0] == 56
    with_one = f"curl -s --cacert {CERT} --cert {CERT} --key {KEY}"
    assert dind(f"{with_one} https://localhost:2376/_ping") == "OK"


MADE = {
    name: f"/certs/server/{name[3:].replace('cacert', 'ca')}.pem"
    for name in ("tlscacert", "tlscert", "tlskey")
}


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ({"tlsverify": True, **MADE}, []),
        ({"tlsverify": True}, []),
        ({"tls": True, "tlsverify": True, "tlskey": MADE["tlskey"]}, []),
        ({"tlsverify": True, "hosts": ["tcp://0.0.0.0:2376", "unix:///var/run/docker.sock"], **MADE}, []),
        ({}, ["dockerd", "-H=tcp://0.0.0.0:2376", "--tlsverify", *(f"--{key}={MADE[key]}" for key in MADE)]),
        ({}, ["dockerd", "--host=tcp://0.0.0.0:2376", "--host=unix://", "--tlsverify"]),
    ],
)  # fmt: skip
def test_certificates_that_lie_where_ours_are_made_are_made(
    containers: Containers, file: dict[str, object], command: list[str]
) -> None:
    dind = containers.daemon(*command, files={"/etc/docker/daemon.json": json.dumps(file)})
    client = "cd /certs/client && curl -s --cacert ca.pem"
    assert dind(f"{client} --cert cert.pem --key key.pem https://localhost:2376/_ping") == "OK"
    assert dind.run("sh", "-c", f"{client} https://localhost:2376/_ping")[0] == 56


def test_another_file_by_argument(containers: Containers) -> None:
    dind = containers.daemon(
        "--config-file=/etc/other.json",
        environment={"DIND_MTU": "1290"},
        files={"/etc/other.json": '{"labels": ["other=file"]}'},
    )
    assert info(dind)["Labels"] == ["other=file"]


def test_image_archives_are_loaded_before_the_daemon_counts_as_ready(containers: Containers) -> None:
    dind = containers.create(environment={"DIND_PRELOAD": "/preload"})
    archive = small_image(containers.base, containers.base.reference)
    dind.put("/preload/base.tar", archive)
    dind.start().ready()
    assert dind("docker images --format '{{.Repository}}:{{.Tag}}'") == containers.base.reference
    dind.docker("rmi", containers.base.reference)
    assert dind.stop()[0] == 0
    dind.start().ready()
    assert dind("docker images -q") == ""  # each archive once


def test_what_is_meant_for_clients_does_not_hinder_the_preload(containers: Containers) -> None:
    """CI systems hand the job's variables to its services as well."""
    client = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs/client"}
    dind = containers.create(environment={"DIND_PRELOAD": "/preload", **client})
    dind.put("/preload/base.tar", small_image(containers.base, "base"))
    dind.start().ready()
    assert "dind: preloaded /preload/base.tar." in dind.said()


def test_a_stop_in_the_middle_of_the_preload_is_no_failure(containers: Containers) -> None:
    dind = containers.create(
        "-c",
        "for n in $(seq 200); do ln -s base.tar /preload/$n.tar; done; exec dockerd-entrypoint.sh",
        entrypoint="sh",
        environment={"DIND_PRELOAD": "/preload"},
    )
    dind.put("/preload/base.tar", containers.base.archive.read_bytes())
    dind.start()
    assert until(lambda: "dind: preloaded" in dind.log())
    assert dind.stop()[0] == 0
    assert not [line for line in dind.said() if "error" in line]


def test_an_archive_that_cannot_be_loaded_ends_the_daemon(containers: Containers) -> None:
    code, output, _ = containers.answer(environment={"DIND_PRELOAD": "/run/x"}, files={"/run/x": "nonsense"})
    assert code == 1
    assert "dind: error: DIND_PRELOAD: /run/x: " in output


def test_nothing_set_means_no_file_of_ours(containers: Containers) -> None:
    network = containers.network(options={"com.docker.network.driver.mtu": "1500"})
    dind = containers.daemon(network=network.name)
    assert dind.run("test", "-e", "/run/dind/daemon.json")[0] != 0
