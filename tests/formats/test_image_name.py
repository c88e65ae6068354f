"""Names of images: what they stand for, as engines say it, and what is none."""

from __future__ import annotations

import pytest

from dindkit.errors import DindkitError
from dindkit.formats import image_name

NAMES = {
    "dind": ("dind:latest", "docker.io/library/dind:latest"),
    "dind:1.0_x": ("dind:1.0_x", "docker.io/library/dind:1.0_x"),
    "team/dind:1": ("team/dind:1", "docker.io/team/dind:1"),
    "team/a__b/c-d.e": ("team/a__b/c-d.e:latest", "docker.io/team/a__b/c-d.e:latest"),
    "docker.io/dind": ("dind:latest", "docker.io/library/dind:latest"),
    "index.docker.io/library/dind": ("dind:latest", "docker.io/library/dind:latest"),
    "docker.io/library/team/dind": ("library/team/dind:latest", "docker.io/library/team/dind:latest"),
    "localhost/dind": ("localhost/dind:latest", "localhost/dind:latest"),
    "localhost:5000/dind:1": ("localhost:5000/dind:1", "localhost:5000/dind:1"),
    "[::1]:5000/dind": ("[::1]:5000/dind:latest", "[::1]:5000/dind:latest"),
    "Registry/dind": ("Registry/dind:latest", "Registry/dind:latest"),
    "a" * 63: (f"{'a' * 63}:latest", f"docker.io/library/{'a' * 63}:latest"),
}
WRONG = {
    "": "is empty",
    "Dind": "is no name",
    "dind:": "is no name",
    "dind:a b": "is no name",
    "dind:.x": "is no name",
    f"dind:{'x' * 129}": "is no name",
    "-dind": "is no name",
    "dind/": "is no name",
    "/dind": "is no name",
    "team//dind": "is no name",
    "team/dind:1:2": "is no name",
    "dind\n": "is no name",
    "ho_st.example/dind": "is no name",
    "dind@sha256:" + "0" * 64: "holds a digest",
    "0" * 64: "looks like the id",
    "/".join(["a" * 60] * 5): "at most 255 characters",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name(name: str) -> None:
    found = image_name.parse(name)
    assert (str(found), found.full) == NAMES[name]
    assert image_name.parse(str(found)) == image_name.parse(found.full) == found


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(DindkitError, match=WRONG[name]) as caught:
        image_name.parse(name)
    assert "\n" not in str(caught.value)
