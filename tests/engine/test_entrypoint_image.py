"""The contract's first part: what the image holds, and how it can be used without its daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dindkit.engine.discover import Engine
from dindkit.image.build import Built
from tests.engine.dind import Containers, Dind

pytestmark = pytest.mark.engine

PROGRAMS = """
    dockerd-entrypoint.sh docker-entrypoint.sh docker dockerd containerd runc docker-init
    docker-proxy docker-compose git openssl xz pigz iptables ip6tables ip curl wget modprobe ssh
    bash sh jq mount mkfs.ext4 mkfs.btrfs dind-health dind-wait with-dockerd dind ps pgrep
    pkill sysctl top free uptime watch netstat nc nslookup ping arp route ifconfig traceroute
    killall vi less unzip bzip2 cpio hexdump xxd strings time usleep bc dc crond crontab ash
    /usr/local/bin/docker /usr/local/bin/dockerd /usr/local/bin/containerd /usr/local/bin/runc
    /usr/local/bin/docker-compose /usr/local/bin/docker-init /usr/local/bin/docker-proxy
    /usr/local/bin/dind
"""

#: What busybox is on docker:dind's PATH for, but for what concerns the boot and the console of a machine.
APPLETS = """
    addgroup adduser arp arping ash awk base64 basename bc beep blkid blockdev brctl bunzip2 bzcat
    bzip2 cal cat chattr chgrp chmod chown chpasswd chroot cksum clear cmp comm cp cpio crond
    crontab cut date dc dd delgroup deluser df diff dirname dmesg dnsdomainname dos2unix du egrep
    env ether-wake expand expr factor fallocate false fdisk fgrep find findfs flock fold free fsck
    fstrim fuser getopt getty grep groups gunzip gzip hd head hexdump hostid hostname id ifconfig
    ifdown ifenslave ifup inotifyd install ionice iostat ip ipcalc ipcrm ipcs kill killall killall5
    less link ln logger login losetup ls lsattr lsmod lsof lsusb lzcat lzma md5sum mesg mkdir mkfifo
    mknod mkpasswd mkswap mktemp modinfo modprobe more mount mountpoint mpstat mv nc netstat nice nl
    nologin nohup nproc nsenter nslookup ntpd od partprobe passwd paste pgrep pidof ping ping6
    pivot_root pkill pmap printenv printf ps pscan pstree pwd pwdx readlink realpath renice reset
    resize rev rm rmdir rmmod route run-parts sed sendmail seq setpriv setsid sh sha1sum sha256sum
    sha3sum sha512sum shred shuf sleep sort split stat strings stty su sum swapoff swapon sync
    sysctl syslogd tac tail tar tee test time timeout top touch tr traceroute traceroute6 tree true
    truncate tty udhcpc umount uname unexpand uniq unix2dos unlink unlzma unshare unxz unzip uptime
    usleep uudecode uuencode vconfig vi vlock watch watchdog wc wget which who whoami whois xargs
    xxd xzcat yes zcat apk ctr
"""


def test_configuration(engine: Engine, dind: Built) -> None:
    config = engine.client.images.get(dind.reference).attrs["Config"]
    assert config["Entrypoint"] == ["dockerd-entrypoint.sh"]
    assert not config["Cmd"]
    assert set(config["Volumes"]) == {"/var/lib/docker"}
    assert set(config["ExposedPorts"]) == {"2375/tcp", "2376/tcp"}
    assert "DOCKER_TLS_CERTDIR=/certs" in config["Env"]
    assert not config.get("StopSignal")
    assert config["Healthcheck"]["Test"] == ["CMD", "dind-health"]


def missing(daemon: Dind, words: str) -> set[str]:
    """Return those of the programs that a shell in the image does not find."""
    script = 'for word in "$@"; do type "$word" >/dev/null 2>&1 || echo "$word"; done'
    code, said = daemon.run("bash", "-c", script, "bash", *words.split())
    assert code in (0, 1)
    return set(said.split())


def test_programs_are_on_path(daemon: Dind) -> None:
    assert missing(daemon, PROGRAMS) == set()


def test_what_busybox_has_there_is_here_or_named_as_missing(daemon: Dind) -> None:
    contract = (Path(__file__).parents[2] / "docs/contract.md").read_text("utf-8")
    _, _, named = contract.partition("## What docker:dind has, and this image has not")
    assert {applet for applet in missing(daemon, APPLETS) if f"`{applet}`" not in named} == set()


#: What users do with git, over the transports that need no server of ours.
GIT = """
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
    set -e
    git init --quiet --bare /tmp/work/origin.git
    git clone --quiet file:///tmp/work/origin.git /tmp/work/one
    cd /tmp/work/one
    echo hello >file && git add file && git commit --quiet -m first && git push --quiet origin HEAD
    git -c protocol.file.allow=always submodule --quiet add file:///tmp/work/origin.git sub
    git commit --quiet -m second && git gc --quiet && git stash list && git rebase --quiet HEAD~1
    git bundle create --quiet /tmp/work/b HEAD && git clone --quiet /tmp/work/b /tmp/work/two
    git -C /tmp/work/two fsck && git --exec-path && "$(git --exec-path)/git" log --format=%s
"""


def test_git_works_without_its_servers_side(daemon: Dind) -> None:
    daemon("mkdir /tmp/work")
    try:
        assert daemon(GIT).splitlines()[-2:] == ["second", "first"]
        # The transports of https: and ssh: are there, and say so when nobody answers.
        for url in ("https://localhost:1/x", "ssh://localhost:1/x"):
            code, said = daemon.run("git", "clone", url, "/tmp/work/three")
            assert code == 128
            assert "Connection refused" in said or "Could not connect" in said
    finally:
        daemon("rm -r /tmp/work")


#: What perl does for programs: encodings, Unicode and its names, modules with a library of their own.
PERL = r"""
    set -e
    perl -MEncode -e 'for (qw(UTF-8 UTF-16LE iso-8859-2 cp1252 koi8-r)) {
        decode($_, encode($_, "x")) eq "x" or die $_
    }'
    perl -MUnicode::Normalize -e 'length(NFD("\x{e9}")) == 2 or die'
    perl -Mcharnames=:full -e 'ord("\N{LATIN SMALL LETTER E WITH ACUTE}") == 0xe9 or die'
    perl -MUnicode::Collate -e 'join("", Unicode::Collate->new->sort(qw(b A c))) eq "Abc" or die'
    perl -MSocket -MPOSIX -MStorable -MDigest::SHA -MCompress::Zlib -MJSON::PP -MIO::Socket::IP -MConfig -e 1
    perl -V >/dev/null
    find /usr/lib/*/perl /usr/share/perl -path '*/CORE/*' -o -path '*/Encode/JP/*.so' -o -name TestNorm.pl
"""


def test_perl_works_without_headers_and_east_asian_encodings(daemon: Dind) -> None:
    assert daemon(PERL).split() == []


def test_links_to_busybox_lead_to_applets(daemon: Dind) -> None:
    """They lie where dpkg puts files, so that a package with a file of that name takes it over."""
    linked = set(daemon("find /usr/bin -lname busybox -printf '%f '").split())
    assert {"nslookup", "ping", "vi"} < linked
    assert linked <= set(daemon("busybox --list").split())
    assert "/usr/local/bin" not in daemon("find /usr/local -lname '*busybox' -printf '%h '")


def test_docker_top(daemon: Dind) -> None:
    """The daemon calls the ps beside it, here with a CI server's own options."""
    daemon.docker("run", "--detach", "--name=topped", "base", "sleep", "60")
    try:
        assert "sleep" in daemon.docker("top", "topped", "-eo", "pid,comm").split()
        assert "sleep 60" in daemon.docker("top", "topped")
    finally:
        daemon.docker("rm", "--force", "topped")


def test_what_hooks_and_probes_ask(daemon: Dind) -> None:
    assert daemon("pgrep -x dockerd") == daemon("cat /var/run/docker.pid")
    assert daemon("sysctl -n net.ipv4.ip_forward") == "1"
    assert "/dockerd" in daemon("netstat -tulpn | grep ':2376 '")
    daemon("nc -z -w 2 localhost 2376")
    assert daemon.run("nc", "-z", "-w", "2", "localhost", "2399")[0] == 1
    assert daemon.run("pkill", "-0", "-x", "dockerd")[0] == 0


@pytest.mark.parametrize("entrypoint", [None, "dind"])
def test_the_wrapper_dind_runs_the_daemon(containers: Containers, entrypoint: str | None) -> None:
    words = ("dockerd", "--host=unix:///var/run/docker.sock", "--group=1234")
    options: dict[str, Any] = {"entrypoint": entrypoint} if entrypoint else {}
    dind = containers.daemon(*(words if entrypoint else ("dind", *words)), **options)
    assert dind("stat -c %g /var/run/docker.sock") == "1234"
    assert "listening" not in dind.log()
    assert dind.stop()[0] == 0


def test_the_wrapper_dind_prepares_for_a_daemon_of_the_users_own(containers: Containers) -> None:
    """Without it cgroup v2 hands no controllers on, and the root is a private mount."""
    script = "findmnt -no PROPAGATION /; cat /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || :"
    code, output, _ = containers.answer("dind", "sh", "-c", script)
    assert (code, output.splitlines()[0]) == (0, "shared")
    if len(output.splitlines()) > 1:
        assert "memory" in output
    assert containers.answer("sh", "-c", script)[1].splitlines()[0] == "private"
    code, output, _ = containers.answer("dind")
    assert (code, output.split()[0]) == (2, "usage:")


def test_plugins_and_stand_alone_compose(daemon: Dind) -> None:
    assert "Docker Compose" in daemon("docker compose version")
    assert "Docker Compose" in daemon("docker-compose version")
    assert "buildx" in daemon("docker buildx version")


def test_folders_and_accounts(daemon: Dind) -> None:
    assert daemon("stat -c %a /certs /certs/client").split() == ["1777", "1777"]
    assert daemon("getent group docker").startswith("docker:x:2375:")
    assert daemon("stat -c %g /var/run/docker.sock") == "2375"
    assert "dockremap:165536:65536" in daemon("cat /etc/subuid").split()
    assert "dockremap:165536:65536" in daemon("cat /etc/subgid").split()


def test_system_users_leave_the_ordinary_range_to_others(containers: Containers) -> None:
    """The first user of an image made from this one owns what the first user of its host owns."""
    dind = containers.start("sleep", "60", privileged=False)
    dind("useradd --create-home --groups docker dev")
    assert dind("id -u dev; id -g dev").split() == ["1000", "1000"]
    ids = [line.split(":") for line in dind("cat /etc/passwd").splitlines()]
    assert [name for name, _, uid, *_ in ids if 1000 <= int(uid) < 65534] == ["dev"]
    assert dind("cut -d: -f1,2 /etc/shadow /etc/gshadow | grep -v -e ':[*]$' -e ':!$' -e ':![*]$' || :") == ""


def test_first_process_reaps_orphans(daemon: Dind) -> None:
    assert "init" in daemon("cat /proc/1/cmdline")
    daemon("(sleep 0.1 &)")
    assert daemon("sleep 0.5; grep -l 'State:.Z' /proc/[0-9]*/status || echo none") == "none"


def test_under_an_init_of_the_engines(containers: Containers) -> None:
    """`docker run --init`: there is a first process already."""
    dind = containers.daemon(init=True)
    assert dind("pidof docker-init") == "1"
    assert dind.stop()[0] == 0


def test_modprobe_never_fails_its_caller(daemon: Dind) -> None:
    assert daemon.run("modprobe", "-va", "no_such_module", "bridge") == (0, "")


def test_tmp_is_what_it_was(containers: Containers) -> None:
    dind = containers.daemon(files={"/tmp/mine": "kept"})
    assert dind("cat /tmp/mine") == "kept"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (["echo", "hi"], "hi\n"),
        (["sh", "-c", "echo $0"], "sh\n"),
        (["bash", "-c", "exit 0"], ""),
    ],
)
def test_any_other_command_runs_as_it_is(containers: Containers, command: list[str], output: str) -> None:
    assert containers.answer(*command, privileged=False)[:2] == (0, output)


def test_exit_code_is_the_commands(containers: Containers) -> None:
    assert containers.answer("sh", "-c", "exit 9", privileged=False)[0] == 9


def test_a_word_that_docker_knows_becomes_docker_word(containers: Containers) -> None:
    code, output, _ = containers.answer("version", "--format", "{{.Client.Os}}", privileged=False)
    assert "linux" in output
    assert code != 0  # there is no daemon
    assert "docker" in output


def test_client_entrypoint_takes_options_as_dockers(containers: Containers) -> None:
    code, output, _ = containers.answer("--version", entrypoint="docker-entrypoint.sh", privileged=False)
    assert (code, output.split()[0]) == (0, "Docker")


def test_daemon_answers_questions_without_privileges(containers: Containers) -> None:
    assert containers.answer("--version", privileged=False)[0] == 0
    assert containers.answer("dockerd", "--version", privileged=False)[0] == 0


def test_dockerd_starts_without_the_entrypoint(containers: Containers) -> None:
    dind = containers.start("--host", "tcp://0.0.0.0:2375", "--tls=false", entrypoint="dockerd")
    dind("timeout 40 sh -c 'until docker -H tcp://127.0.0.1:2375 version; do sleep 0.2; done' 2>&1")
    assert dind.run("dind-health") == (0, "")


@pytest.mark.parametrize(
    ("environment", "files", "expected"),
    [
        ({}, (), "tcp://docker:2375 - -"),
        ({"DOCKER_TLS_VERIFY": "1"}, (), "tcp://docker:2376 1 -"),
        ({}, ("client",), "tcp://docker:2376 1 /certs/client"),
        ({"DOCKER_HOST": "tcp://other:99"}, ("client",), "tcp://other:99 1 /certs/client"),
        ({"DOCKER_HOST": "tcp://other:99", "DOCKER_TLS_VERIFY": ""}, ("client",), "tcp://other:99 - -"),
        ({"DOCKER_HOST": "tcp://other:99", "DOCKER_CERT_PATH": "/x"}, ("client",), "tcp://other:99 - /x"),
        ({"DOCKER_HOST": "unix:///x"}, ("client",), "unix:///x - -"),
        ({"DOCKER_TLS_CERTDIR": ""}, ("client",), "tcp://docker:2375 - -"),
        ({"XDG_RUNTIME_DIR": "/tmp/xdg"}, ("client", "user"), "unix:///tmp/xdg/docker.sock - -"),
        ({}, ("client", "user", "root"), "unix:///var/run/docker.sock - -"),
    ],
)
def test_client_finds_its_daemon(
    containers: Containers, environment: dict[str, str], files: tuple[str, ...], expected: str
) -> None:
    listen = "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => shift, Listen => 1) or die'"
    prepare = {
        "client": "cd /certs/client && echo x | tee ca.pem cert.pem key.pem >/dev/null",
        "user": f"mkdir -p /tmp/xdg && {listen} /tmp/xdg/docker.sock",
        "root": f"{listen} /var/run/docker.sock",
    }
    show = 'echo "$DOCKER_HOST ${DOCKER_TLS_VERIFY:--} ${DOCKER_CERT_PATH:--}"'
    script = "\n".join([*(prepare[name] for name in files), f"exec docker-entrypoint.sh sh -c '{show}'"])
    code, output, _ = containers.answer(
        "-ec", script, entrypoint="sh", environment=environment, privileged=False
    )
    assert (code, output.strip()) == (0, expected)
