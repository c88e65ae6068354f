"""What a user types: what is misspelt is a sentence that helps, and help may be asked for anywhere."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dindkit.command_line.program import Commands

ROOT = Path(__file__).parents[1]


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
