"""What a user sees at the edge: sentences and exit codes, never a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dindkit.command_line.program import Commands

ROOT = Path(__file__).parents[1]

TASKS = """
import atexit
import errno
import os
import signal
import time
from pathlib import Path
from invoke import Collection
from dindkit.command_line.verb import verb
from dindkit.errors import DindkitError
from dindkit.progress import Progress

@verb()
def sentence(_context):
    raise DindkitError("The lock is broken.", "Run: invoke lock")

@verb()
def code(_context):
    raise DindkitError("A security update waits.", exit_code=3)

@verb()
def bug(_context):
    {}["missing"]

@verb()
def full(_context):
    raise OSError(errno.ENOSPC, "No space left on device", "blob")

@verb()
def memory(_context):
    try:
        raise RuntimeError("can't start new thread")
    except RuntimeError:
        raise AttributeError("of what was left half-made")

@verb()
def files(_context):
    raise OSError(errno.EMFILE, "Too many open files", "blob")

@verb()
def folder(_context):
    place = Path(os.environ["DINDKIT_STATE"])
    place.mkdir()
    place.with_name("file").touch()
    place.with_name("file").replace(place)

@verb()
def file(_context):
    place = Path(os.environ["DINDKIT_STATE"])
    place.touch()
    (place / "layers" / "one").mkdir(parents=True)

@verb()
def wait(_context):
    try:
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

@verb()
def whole(_context):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        atexit.register(os.kill, os.getpid(), number)
    print("done")

@verb()
def lock(_context, suite="trixie", image="dind"):
    pass

@verb()
def build(_context, suite="trixie", image="dind"):
    Progress().note("note invoke engine.start")
    raise DindkitError(
        "See: invoke build --help or invoke build --output FILE, or invoke lock,",
        "or invoke build --suite sid.",
    )

@verb()
def talk(_context):
    for _ in range(100_000):
        print("a line")
"""


def refused(*words: str) -> str:
    """Run the project's own verbs with `words`, and return the one line that they end with."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as ended:
        Commands().run(["invoke", "--search-root", str(ROOT), *words])
    assert ended.value.code == 1
    (line,) = said.getvalue().splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("buld", "There is no verb 'buld'. Did you mean build? See: invoke --list"),
        ("engine", "There is no verb 'engine'. Did you mean engine.start or engine.status or engine.stop? "),
        ("engine.strt", "There is no verb 'engine.strt'. Did you mean engine.start"),
        ("xyzzy", "There is no verb 'xyzzy'. See: invoke --list"),
        ("--help buld", "There is no verb 'buld'. Did you mean build?"),
        ("build --imge base", "build has no option --imge. Did you mean --image"),
        ("build --imge=base", "build has no option --imge. Did you mean --image"),
        ("build -o", "build has no option -o. See: invoke build --help"),
        ("lock -o", "lock has no option -o. See: invoke lock --help"),
        ("build dind", "build takes no argument 'dind', only options. See: invoke build --help"),
        ("build smok", "There is no verb 'smok'. Did you mean smoke?"),
        ("--frozen build", "There is no option --frozen before a verb; a verb's own follow it."),
        ("build --output", "--output needs a value. See: invoke build --help"),
        ("push", "push needs REFERENCE. See: invoke push --help"),
        ("bench boot --pairs x", "--pairs wants a number, and 'x' is none."),
        ("bench boot --pairs 0", "0 pairs cannot be measured. Give --pairs a number from 1 on."),
        ("bench boot --pairs -1", "-1 pairs cannot be measured."),
        ("bench bot", "There is no bench bot. Did you mean boot? Choose: boot, build."),
        ("bench build /no/dind", "bench takes no argument '/no/dind', only options."),
        (
            "build --image dindd",
            "There is no recipe for an image 'dindd'. Did you mean dind? There are:",
        ),
        ("build --image=", "There is no recipe for an image ''. There are: base,"),
        ("build --image /no/dind", "There is no folder /no/dind. To begin a recipe there, run: invoke init"),
        ("build /no/dind", "There is no folder /no/dind."),
        ("build --output /tmp/b.tar --frozen /no/dind", "There is no folder /no/dind."),
        ("build --output=/tmp/b.tar no/dind", "There is no folder "),
        ("verify --image /etc/passwd /no/dind", "There is no folder /no/dind."),
        ("verify /no/dind", "There is no folder /no/dind."),
        ("doctor /no/dind", "doctor takes no argument '/no/dind', only options."),
        ("audit --updates /etc/", "/etc has no image.toml. To begin a recipe, run: invoke init /etc"),
        ("push /no/dind localhost:1/x", "There is no folder /no/dind."),
        ("push localhost:1/x /no/dind", "There is no folder /no/dind."),
        ("smoke /etc/", "/etc has no image.toml."),
        ("init", "init needs FOLDER. See: invoke init --help"),
        ("build --suite trixi", "No archive of keys/archives.toml has a suite 'trixi'. Did you mean trixie?"),
        ("build --suite=", "No archive of keys/archives.toml has a suite ''. There are: "),
        ("build --arch amd46", "Debian has no architecture 'amd46'. Did you mean amd64"),
        ("build --arch x86_64", "Debian has no architecture 'x86_64'. Debian calls it amd64."),
        ("build --engine docker-io", "The image dind has no engine 'docker-io'. Did you mean docker.io"),
        ("build --output /tmp", "/tmp is a folder. Name a file."),
        ("build --output /dev/null/x", "Not a directory: /dev/null/x."),
        ("build --output /no/such/x", "/no/such/x cannot be written: there is no folder /no/such."),
        (
            "build --output type=local,dest=x",
            "--output writes no type=local. Instead: type=tar, and unpack it.",
        ),
        ("build --output type=oci,dest=/tmp,tar=false", "/tmp holds other things than an OCI image layout."),
        ("preload x --image", "--image needs a value. See: invoke preload --help"),
        ("build --tag team/X", "'team/X' is no name of an image. Give it as NAME, NAME:TAG"),
        ("build --tag=", "The name of an image is empty. Give it as NAME, NAME:TAG"),
        ("build --tag", "--tag needs a value. See: invoke build --help"),
        ("build --output=", "--output is empty. See: invoke build --help"),
        ("verify --image=", "--image is empty. See: invoke verify --help"),
        ("audit --against=", "--against is empty. See: invoke audit --help"),
        ("build --output /tmp/x/", "/tmp/x/ is the path of a folder. Name a file."),
        ("build --output type=tar,dest=x/", "x/ is the path of a folder. Name a file."),
        ("build --output TYPE=tar", "--output says not where to."),
        ("build --output Type=docker,Dest=/no/such/x", "/no/such/x cannot be written: there is no folder"),
        ("help", "There is no verb 'help'. See: invoke --list, or a verb and --help"),
        ("help build", "There is no verb 'help'. See: invoke --list, or a verb and --help"),
        ("sbom --output x/", "x/ is the path of a folder. Name a file."),
        ("audit --html x/", "x/ is the path of a folder. Name a file."),
        ("sbom --output /tmp", "/tmp is a folder. Name a file."),
        ("audit --html /tmp", "/tmp is a folder. Name a file."),
        ("smoke --topology nestd", "There is no topology nestd. Did you mean nested? Choose one of: nested,"),
        ("verify --image /no/such.tar", "/no/such.tar does not exist. Give an archive, or the name"),
        ("verify --image /tmp", "/tmp is no file. Give an archive, or the name of an image of the engine."),
        (
            "verify --image /etc/passwd",
            "/etc/passwd is not an image archive: it is no tar, or a damaged one.",
        ),
        ("verify --recipe dinds", "There is no recipe for an image 'dinds'. Did you mean dind?"),
        ("preload runner-data", "No image is named to load into runner-data. Name one or more: --image"),
        ("preload /srv/data --image x.tar", "'/srv/data' is no name of a volume."),
        ("push host", "host names no registry. Give it as HOST/REPOSITORY:TAG."),
        ("push localhost:1/x --arch amd46", "Debian has no architecture 'amd46'."),
        ("shell --folder /no/such", "/no/such is no folder of this machine. Name one: --folder FOLDER"),
        ("doctor --mount /no/such", "/no/such does not exist on this machine. Name a path that does."),
        ("test --pytest '", '--pytest cannot be read: no closing quotation in "\'".'),
        ("--list-depth x --list", "A number is wanted: "),
        ("--dry build", "build has no dry run; nothing was done. See: invoke build --help"),
        ("--dry engine.stop --purge", "engine.stop has no dry run; nothing was done."),
    ],
)
def test_what_is_misspelt_is_a_sentence_that_helps(words: str, said: str) -> None:
    assert refused(*words.split()).startswith(said)


def helped(*words: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as ended:
        Commands(binary="invoke").run(["invoke", "--search-root", str(ROOT), *words])
    assert ended.value.code == 0
    return shown.getvalue()


@pytest.mark.parametrize("word", ["--help", "-h"])
@pytest.mark.parametrize("verb", ["push", "push localhost:1/x", "preload x --image y", "audit", "bench boot"])
def test_help_may_be_asked_for_anywhere(verb: str, word: str) -> None:
    name = verb.split()[0]
    assert helped(*verb.split(), word).startswith(f"Usage: invoke [--core-opts] {name} [--options]")
    assert helped(word, name) == helped(*verb.split(), word)


@pytest.mark.parametrize("words", ["--version", "build --version", "build --frozen --version smoke"])
def test_a_version_may_be_asked_for_anywhere(words: str) -> None:
    assert helped(*words.split()) == "Invoke unknown\n"


def test_help_says_what_each_option_does() -> None:
    shown = " ".join(helped("build", "--help").split())
    for option, text in (("--frozen", "use the lock and nothing else"), ("--quiet", "print only results")):
        assert f"{option} {text}" in shown


def test_no_option_has_a_short_form_that_nobody_chose() -> None:
    names = re.findall(r"^  ([a-z.]+)", helped("--list"), re.MULTILINE)
    assert {"build", "engine.start", "push"} < set(names)
    for name in names:
        options = helped("--help", name).partition("Options:")[2]
        assert "--" in options or options.strip() in ("", "none")
        assert not re.findall(r"^ +-[a-z]\b", options, re.MULTILINE), name


def test_plain_invoke_knows_no_short_forms_either() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "invoke", "--search-root", str(ROOT), "--help", "audit"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "  --html=STRING" in shown.stdout
    assert "-h" not in shown.stdout.split()


def test_the_script_runs_this_program() -> None:
    done = subprocess.run([ROOT / "scripts/invoke", "buld"], capture_output=True, text=True)
    said = "error: There is no verb 'buld'. Did you mean build? See: invoke --list\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "tasks.py").write_text(TASKS)
    return [sys.executable, "-m", "invoke", "--search-root", str(tmp_path)]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "DINDKIT_STATE": str(tmp_path / "state")}


@pytest.mark.parametrize(
    ("task", "code", "said"),
    [
        ("sentence", 1, "error: The lock is broken. Run: invoke lock\n"),
        ("code", 3, "error: A security update waits.\n"),
        ("full", 1, "error: No space left on device: blob.\n"),
        (
            "memory",
            1,
            "error: There is not enough memory, or this process may not take more of it or start more "
            "threads. Free some, or raise the limits: ulimit -v, ulimit -u\n",
        ),
        (
            "files",
            1,
            "error: Too many open files: blob. Allow this process more open files: ulimit -n\n",
        ),
        (
            "folder",
            1,
            "error: There is a folder at {state}, where a file should be. Find out why, and remove it.\n",
        ),
        (
            "file",
            1,
            "error: There is a file at {state}, where a folder should be. Find out why, and remove it.\n",
        ),
    ],
)
def test_an_error_is_a_sentence(tmp_path: Path, command: list[str], task: str, code: int, said: str) -> None:
    done = subprocess.run([*command, task], env=environment(tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, said.format(state=tmp_path / "state"))


def test_a_bug_keeps_its_traceback_in_a_file(tmp_path: Path, command: list[str]) -> None:
    done = subprocess.run([*command, "bug"], env=environment(tmp_path), capture_output=True, text=True)
    report = tmp_path / "state" / "last-error.txt"
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(report) in done.stderr
    assert "KeyError: 'missing'" in report.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_unwinds(tmp_path: Path, command: list[str], number: signal.Signals) -> None:
    with subprocess.Popen(
        [*command, "wait"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waiting\n"
        started = time.monotonic()
        running.send_signal(number)
        out, err = running.communicate()
    assert running.returncode == 1
    assert out == "cleaned up\n"
    assert err == "interrupted; what was there before is unchanged.\n"
    assert time.monotonic() - started < 30  # it was the signal that ended it, not the sleep


def test_nohup_lets_it_go_on(tmp_path: Path, command: list[str]) -> None:
    """nohup(1) has SIGHUP ignored, in all that is started by it."""
    with subprocess.Popen(
        ["nohup", *command, "wait"], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"waiting\n"
        running.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.5)
        running.terminate()
        out, _ = running.communicate()
    assert (running.returncode, out) == (1, b"cleaned up\n")


def test_a_signal_after_the_end_interrupts_nothing(tmp_path: Path, command: list[str]) -> None:
    program = [sys.executable, "-m", "dindkit.command_line", "--search-root", command[-1], "whole"]
    done = subprocess.run(program, env=environment(tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize(
    ("words", "advised"),
    [
        ("advise", "invoke build --output FILE, or invoke lock, or invoke build --suite sid."),
        ("advise --suite forky", "build --suite forky --output FILE, or invoke lock --suite forky, or"),
        ("advise --suite forky", "or invoke build --suite sid."),
        ("advise --image base", "build --image base --output FILE, or invoke lock --image base, or"),
        ("advise --image ./my\\ own", "build './my own' --output FILE, or invoke lock './my own', or invoke"),
    ],
)
def test_advice_is_about_what_was_asked_for(
    tmp_path: Path, command: list[str], words: str, advised: str
) -> None:
    typed = words.replace("advise", "build", 1)
    done = subprocess.run(
        [*command, *shlex.split(typed)], env=environment(tmp_path), capture_output=True, text=True
    )
    assert f"{advised}" in done.stderr
    assert "See: invoke build --help" in done.stderr
    assert "note invoke engine.start" in done.stderr


READ_BY_NOBODY = [
    "--list",
    "--help",
    "build --help",
    "--print-completion-script=bash",
    "version --json --quiet",
]


@pytest.mark.parametrize("words", READ_BY_NOBODY)
def test_a_list_that_nobody_reads_is_no_error_to_talk_about(words: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run([ROOT / "scripts/invoke", *words.split()], stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("words", READ_BY_NOBODY)
def test_a_list_for_which_there_is_no_space_is_a_sentence(words: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([ROOT / "scripts/invoke", *words.split()], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"error: No space left on device.\n")


@pytest.mark.parametrize("words", ["version", "version --json --quiet", "--list"])
def test_an_output_that_is_closed_is_a_sentence(words: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {shlex.quote(str(ROOT / 'scripts/invoke'))} {words} >&-"], stderr=subprocess.PIPE
    )
    assert (done.returncode, done.stderr) == (1, b"error: Bad file descriptor.\n")


def test_messages_that_nobody_reads_change_no_result() -> None:
    script = shlex.quote(str(ROOT / "scripts/invoke"))
    for aside in ("2>&-", "<&-", "2>/dev/full"):
        done = subprocess.run(["sh", "-c", f"exec {script} version {aside}"], stdout=subprocess.PIPE)
        assert (done.returncode, done.stdout[:8]) == (0, b"dindkit "), aside


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    script = shlex.quote(str(ROOT / "scripts/invoke"))
    words = f"cd {shlex.quote(str(folder))} && rmdir ../gone && exec {script} build ./my-runner"
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True)
    said = "error: The folder that this was called in is gone. Change to one that is there.\n"
    assert (done.returncode, done.stderr.splitlines(keepends=True)[-1]) == (
        1,
        said,
    )  # the shell complains, too


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's id, as root alone may")
def test_a_user_without_a_home(tmp_path: Path) -> None:
    """Which is what a container is given by `docker run --user 4242`."""
    program = (
        "import os, pwd\nfrom dindkit.project import DindkitError, Project\nos.setuid(4242)\n"
        "try: Project.here()\nexcept DindkitError as error: print(error)"
    )
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=kept, capture_output=True, text=True)
    said = "User 4242 has no home folder. Set HOME, or DINDKIT_STATE and DINDKIT_CACHE.\n"
    assert (done.stdout, done.stderr) == (said, "")


@pytest.mark.parametrize(("verb", "said"), [("build", True), ("build .", False), ("version", False)])
def test_a_recipe_in_this_folder_is_pointed_out(tmp_path: Path, verb: str, said: bool) -> None:
    (tmp_path / "image.toml").write_text('parent = "dind"\n')
    done = subprocess.run(
        [ROOT / "scripts/invoke", *verb.split(), *(["--suite", "sid"] if "build" in verb else [])],
        cwd=tmp_path,
        env={**environment(tmp_path), "DINDKIT_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
    )
    assert ("For the recipe in this folder: invoke build --suite sid ." in done.stderr) == said


def test_a_reader_that_goes_away_is_no_error_to_talk_about(tmp_path: Path, command: list[str]) -> None:
    with subprocess.Popen(
        [*command, "talk"], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert b"Traceback" not in running.stderr.read()
    assert running.returncode == 1
