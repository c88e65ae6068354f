"""What a program in a container says arrives whole, or it is an error; also where the engine loses it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from docker.models.containers import Container

from dindkit.engine.discover import Engine
from dindkit.engine.exec_command import PAUSES, Done, exec_command
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
        self.took: list[float] = []

    def exec_run(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        before = time.monotonic()
        code, streams = self.container.exec_run(*args, **options)
        self.took.append(time.monotonic() - before)
        return (code, (None, None) if self.calls <= self.times else streams)


class Detached:
    """A container whose engine drops the stream of the first program at once; the program runs on."""

    def __init__(self, container: Container) -> None:
        self.container, self.calls = container, 0

    def exec_run(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            return self.container.exec_run(*args, **options)
        self.container.exec_run(*args, **{**options, "demux": False, "detach": True})
        return None, (None, None)


class Hasty(Lossy):
    """One whose engine tells no exit code: the stream has ended, and it has not seen the program's end."""

    def exec_run(self, *args: Any, **options: Any) -> Any:
        return None, super().exec_run(*args, **options)[1]


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


def test_each_reading_stays_longer_after_it_has_written(container: Container) -> None:
    """What an engine loses is what comes right before an end."""
    lossy: Any = Lossy(container, len(PAUSES) - 1)
    assert exec_command(lossy, ["echo", "hello"]).output == b"hello\n"
    assert all(took >= pause for took, pause in zip(lossy.took, PAUSES, strict=True))


def test_an_image_whose_sleep_fails(container: Container) -> None:
    lossy: Any = Lossy(container, 2)
    for body in ("exit 1", '[ "$1" = 1 ]'):  # none at all, or none for less than a second
        script = f"printf '#!/bin/sh\\n%s\\n' '{body}' >/usr/local/bin/sleep; chmod +x /usr/local/bin/sleep"
        container.exec_run(["sh", "-c", script])
        lossy.calls = 0
        done = exec_command(lossy, ["sh", "-c", "echo x; echo y >&2; exit 4"])
        assert done == Done(4, b"x\n", b"y\n")
    container.exec_run(["rm", "/usr/local/bin/sleep"])


@pytest.mark.parametrize("times", [0, 2])
def test_no_exit_code_is_not_zero(container: Container, times: int) -> None:
    hasty: Any = Hasty(container, times)
    assert exec_command(hasty, ["sh", "-c", "echo x; exit 5"]) == Done(5, b"x\n", b"")


def test_a_stream_that_ends_before_the_program(container: Container) -> None:
    """It is read to its end, and what was there before that is no answer."""
    detached: Any = Detached(container)
    assert exec_command(detached, ["sh", "-c", "echo x; sleep 1; echo y; exit 6"]) == Done(6, b"x\ny\n", b"")


def test_an_engine_that_loses_everything_is_an_error(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dindkit.engine.exec_command.PAUSES", (0.0, 0.1))
    lossy: Any = Lossy(container, 100)
    each = r"exit code 0, 0 and 0 bytes"
    message = rf"loses what `echo hello` says. It was read 2 times: {each}; {each}\."
    with pytest.raises(EngineError, match=message):
        exec_command(lossy, ["echo", "hello"])
