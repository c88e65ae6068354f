"""`--json`: one document on standard output, whatever happens, and nothing else there; and `--quiet`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tasks
from dindkit.json_document import SCHEMAS
from tests.support import schemas

ROOT = Path(__file__).parents[1]

TASKS = """
import errno
import sys
import time
from invoke import Collection
from dindkit.command_line.verb import verb
from dindkit.errors import DindkitError, TrustError
from dindkit.printing import result
from dindkit.progress import Progress

@verb()
def version(found, json: bool = False):
    Progress().warn("look \\x1b[31m out")
    Progress().note("a note")
    with Progress().step("a step"):
        found |= {"dindkit": "caf\\xe9 \\udcff \\u202e", "python": "3", "locks": []}
    result("a line")
    print("another")

@verb()
def doctor(found, json: bool = False):
    found |= {"facts": {"a": "b"}, "warnings": []}
    raise TrustError("It is forged.", "Find out.", exit_code=3)

@verb(name="push")
def bug(found, json: bool = False):
    {}["missing"]

@verb(name="lock")
def full(found, json: bool = False):
    raise OSError(errno.ENOSPC, "No space left on device", "blob")

@verb(name="verify")
def wait(found, json: bool = False):
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(60)

@verb(name="list")
def many(found, json: bool = False):
    found["images"] = ["x" * 1000] * 1000
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "tasks.py").write_text(TASKS)
    return [sys.executable, "-m", "dindkit.command_line", "--search-root", str(tmp_path)]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "DINDKIT_STATE": str(tmp_path / "state"), **more}


def told(
    tmp_path: Path, command: list[str], *words: str, code: int = 0, **more: str
) -> tuple[dict[str, Any], str]:
    """Run a verb; return its document, checked against the schema that it names, and its standard error."""
    done = subprocess.run([*command, *words], env=environment(tmp_path, **more), capture_output=True)
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout.decode("ascii"))
    name = re.fullmatch(r"dindkit/(\w+)/1", document["schema"])
    assert name
    return schemas.check(name[1], document), done.stderr.decode()


def test_lines_go_to_standard_error(tmp_path: Path, command: list[str]) -> None:
    found, said = told(tmp_path, command, "version", "--json")
    assert (found["ok"], found["error"], found["warnings"]) == (True, None, ["look \x1b[31m out"])
    assert found["result"]["dindkit"] == "caf\xe9 \\xff \u202e"
    lines = said.splitlines()
    assert lines[:2] == ["warning: look \\x1b[31m out", "a note"]
    assert lines[-2:] == ["a line", "another"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_a_document_is_the_same_in_every_encoding(tmp_path: Path, command: list[str], encoding: str) -> None:
    words = [*command, "version", "--json"]
    plain = subprocess.run(words, env=environment(tmp_path), capture_output=True, check=True).stdout
    moved = environment(tmp_path, PYTHONIOENCODING=encoding)
    done = subprocess.run(words, env=moved, capture_output=True, check=True)
    assert done.stdout.decode(encoding) == plain.decode("ascii")


@pytest.mark.parametrize(
    ("words", "code", "kind", "cause"),
    [
        ("doctor", 3, "trust", "It is forged."),
        ("push", 1, "internal", "internal error: KeyError('missing')."),
        ("lock", 1, "system", "No space left on device: blob."),
        ("--dry doctor", 1, "other", "doctor has no dry run; nothing was done."),
        ("doctor --jsn", 1, "usage", "doctor has no option --jsn. Did you mean --json?"),
        ("dcotor", 1, "usage", "There is no verb 'dcotor'. Did you mean doctor?"),
    ],
)
def test_an_error_is_in_the_document_too(
    tmp_path: Path, command: list[str], words: str, code: int, kind: str, cause: str
) -> None:
    found, said = told(tmp_path, command, *words.split(), "--json", code=code)
    assert found[
        "schema"
    ] == f"dindkit/{'error' if 'dcotor' in words else words.split()[-1].split()[0]}/1" or (
        words == "doctor --jsn" and found["schema"] == "dindkit/doctor/1"
    )
    assert not found["ok"]
    assert (found["error"]["kind"], found["error"]["exit_code"]) == (kind, code)
    assert found["error"]["cause"].startswith(cause)
    assert said.splitlines()[-1].startswith(f"error: {cause}")


def test_what_was_found_before_the_error_is_there(tmp_path: Path, command: list[str]) -> None:
    found, _ = told(tmp_path, command, "doctor", "--json", code=3)
    assert found["result"] == {"facts": {"a": "b"}, "warnings": []}
    assert found["error"]["next_step"] == "Find out."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_told_too(tmp_path: Path, command: list[str], number: signal.Signals) -> None:
    with subprocess.Popen(
        [*command, "verify", "--json"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "waiting\n"
        running.send_signal(number)
        out, err = running.communicate()
    assert running.returncode == 1
    found = schemas.check("verify", json.loads(out))
    assert (found["error"]["kind"], found["result"]) == ("interrupted", None)
    assert err == "interrupted; what was there before is unchanged.\n"


def test_a_reader_that_goes_away_is_no_error_to_talk_about(tmp_path: Path, command: list[str]) -> None:
    with subprocess.Popen(
        [*command, "list", "--json"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 1


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        ("version --quiet", "a line\nanother\n", ""),
        ("doctor --quiet", "", "error: It is forged. Find out.\n"),
    ],
)
def test_quiet_leaves_results_and_errors(
    tmp_path: Path, command: list[str], words: str, out: str, err: str
) -> None:
    done = subprocess.run(
        [*command, *words.split()], env=environment(tmp_path), capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (out, err)
    assert done.returncode == (3 if err else 0)


def test_quiet_and_json_leave_the_document(tmp_path: Path, command: list[str]) -> None:
    found, said = told(tmp_path, command, "version", "--json", "--quiet")
    assert said == ""
    assert found["warnings"] == ["look \x1b[31m out"]


def verbs_with_json() -> set[str]:
    return {
        name
        for name in tasks.namespace.task_names
        if any("json" in argument.names for argument in tasks.namespace[name].get_arguments())
    }


def test_every_verb_that_reports_has_a_schema_and_is_described() -> None:
    assert {"build", "lock", "verify", "push", "smoke", "doctor", "audit", "bench"} <= verbs_with_json()
    assert {path.stem for path in SCHEMAS.glob("*.json")} == {
        f"{name}-1" for name in (*verbs_with_json(), "error")
    }
    page = (ROOT / "docs/json.md").read_text()
    for name in verbs_with_json():
        assert f"## {name}\n" in page
        part = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        definitions = schemas.schema(name)["$defs"]
        described = definitions["result"]
        for one in described.get("oneOf", [described]):
            form = definitions[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
            for field in form["properties"]:
                assert f"`{field}`" in part, f"{name}: {field}"


def test_all_schemas_have_the_same_envelope() -> None:
    def envelope(name: str) -> dict[str, Any]:
        found = schemas.schema(name)
        parts = {key: value for key, value in found["properties"].items() if key not in ("schema", "result")}
        return {"properties": parts, "required": found["required"], "error": found["$defs"]["error"]}

    for name in verbs_with_json():
        found = schemas.schema(name)
        assert envelope(name) == envelope("error")
        assert found["properties"]["schema"] == {"const": f"dindkit/{name}/1"}
        assert found["$id"] == f"urn:dindkit:{name}:1"


def test_every_kind_of_error_is_described() -> None:
    from dindkit import errors, json_document

    classes = [
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.DindkitError)
    ]
    kinds = {json_document.kind_of(one.__new__(one)) for one in classes}
    assert {"trust", "tool-missing", "other"} < kinds
    described = schemas.schema("error")["$defs"]["error"]["properties"]["kind"]["description"]
    page = (ROOT / "docs/json.md").read_text()
    for kind in kinds | {"usage", "system", "interrupted", "internal"}:
        assert kind in described
        assert f"`{kind}`" in page


def test_the_verbs_themselves(tmp_path: Path) -> None:
    """The real verbs that need neither an engine nor an image."""
    program = [str(ROOT / "scripts/invoke")]
    found, said = told(tmp_path, program, "version", "--json")
    assert said.startswith(f"dindkit {found['result']['dindkit']}\nPython {sys.version.split()[0]}\n")
    assert {"trixie", "forky"} <= {one["suite"] for one in found["result"]["locks"]}
    found, _ = told(tmp_path, program, "list", "--json")
    assert found["result"] is None or found["result"]["images"] == []
