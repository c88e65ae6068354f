"""What a program in a container says arrives whole, or it is an error; also where the engine loses it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from docker.models.containers import Container

from dindkit.engine.discover import Engine
from dindkit.engine.exec_command import Done, exec_command
from dindkit.errors import EngineError
from dindkit.image.build import Built


@pytest.fixture(scope="module")
def container(engine: Engine, base: Built) -> Iterator[Container]:
    made = engine.client.containers.run(base.reference, ["sleep", "300"], detach=True, init=True)
    yield made
    made.remove(force=True)


class Lossy:
    """A container whose engine loses the output of the first `times` programs; they have run."""

    def __init__(self, container: Container, times: int) -> None:
        self.container, self.times, self.calls = container, times, 0

    def exec_run(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        code, streams = self.container.exec_run(*args, **options)
        return (code, (None, None) if self.calls <= self.times else streams)


def test_both_streams_code_environment_and_user(container: Container) -> None:
    script = "echo out $WORD; echo err >&2; id -un >&2; exit 7"
    done = exec_command(container, ["sh", "-c", script], environment={"WORD": "a b"}, user="games")
    assert done == Done(7, b"out a b\n", b"err\ngames\n")


def test_words_reach_the_program_as_they_are(container: Container) -> None:
    words = ["", " ", "$HOME", "'", "-n", "a\nb", "*"]
    assert exec_command(container, ["printf", "<%s>", *words]).output.decode() == "".join(
        f"<{w}>" for w in words
    )


def test_a_program_that_is_not_there(container: Container) -> None:
    done = exec_command(container, ["no-such-program"])
    assert done.exit_code == 127
    assert b"no-such-program" in done.error


def test_lost_output_is_read_again_and_the_program_is_not_run_again(container: Container) -> None:
    lossy: Any = Lossy(container, 2)
    done = exec_command(lossy, ["sh", "-c", "echo x >>/tmp/ran; wc -l </tmp/ran; exit 3"])
    assert (done.exit_code, done.output) == (3, b"1\n")
    assert lossy.calls == 3


def test_an_engine_that_loses_everything_is_an_error(container: Container) -> None:
    lossy: Any = Lossy(container, 100)
    with pytest.raises(EngineError, match="loses what `echo hello` says"):
        exec_command(lossy, ["echo", "hello"])
