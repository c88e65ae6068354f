"""The order of the files of tests, and which of them stay together on one worker of pytest-xdist."""

from __future__ import annotations

from pathlib import Path

from tests.support.schedule import LONG, Scheduling, place

HERE = Path(__file__).parent


def test_every_long_file_is_there_and_named_once() -> None:
    names = [name for row in LONG for name in row]
    assert [name for name in names if not (HERE / name).is_file()] == []
    assert len(names) == len(set(names))


def test_long_files_come_first() -> None:
    first, last = f"tests/{LONG[0][0]}", f"tests/{LONG[-1][-1]}"
    assert place(first) < place(last) < place("tests/test_schedule.py")


def test_the_files_of_a_row_stay_together() -> None:
    scheduling = object.__new__(Scheduling)
    first, *others = (f"tests/{name}::test" for name in max(LONG, key=len))
    assert {scheduling._split_scope(one) for one in others} == {scheduling._split_scope(first)}
    assert scheduling._split_scope("tests/test_a.py::test") != scheduling._split_scope(
        "tests/test_b.py::test"
    )
