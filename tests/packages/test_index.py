"""An index is skimmed; what the skimming would miss, and dpkg or apt would not, is refused."""

from __future__ import annotations

import pytest

from dindkit.errors import TrustError
from dindkit.packages.index import PackageIndex

STANZA = "Package: app\nArchitecture: all\nVersion: 1.0\nDescription: x\n"


def package_index(text: str) -> PackageIndex:
    made = PackageIndex("amd64")
    made.add(text, "debian")
    return made


def test_what_is_skimmed() -> None:
    other = STANZA.replace("Package: app", "Package:  other").replace("Version", "Essential:YES\nVersion")
    folded = "Provides: one,\n two (= 2),\n\tthree\nPackage: third\nArchitecture: all\nVersion: 3\n"
    found = package_index(f"\n\n{STANZA}\n{other}\n\n\n{folded}")
    assert len(found) == 3
    assert [one.name for one in found.essential(["debian"])] == ["other"]
    assert [list(found.providers(name)) for name in ("one", "two", "three")] == [["third"]] * 3
    assert found.versions("third")[0].version == "3"


@pytest.mark.parametrize(
    "odd",
    [
        "package: app\n",
        "PROVIDES: libc6\n",
        "essential: yes\n",
        "Essential : yes\n",
        "Essential\t: yes\n",
        "\rEssential: yes\n",
        "\vEssential: yes\n",
        "\u00a0Essential: yes\n",
        "Homepage: x\rEssential: yes\n",
        "#Essential: yes\n",
        "-Essential: yes\n",
        "noise\n",
        ": yes\n",
        "Homepage: x\0\n",
        "Homepage: x\x1a\n",
    ],
)
def test_a_name_that_others_would_read_differently(odd: str) -> None:
    with pytest.raises(TrustError, match="The index of debian is refused"):
        package_index(f"{STANZA}{odd}\n{STANZA}")


def test_a_package_without_a_version() -> None:
    found = package_index(STANZA.replace("Version: 1.0\n", ""))
    with pytest.raises(TrustError, match="The index of debian is refused: it has no version of 'app'"):
        found.versions("app")


@pytest.mark.parametrize("odd", ["version: 2.0\n", "Version: 1.0\n", "Revision: 7\n", "Class: required\n"])
def test_a_stanza_that_is_asked_for(odd: str) -> None:
    found = package_index(f"{STANZA}{odd}")
    with pytest.raises(TrustError, match=r"The index of debian is refused: it has the (obsolete )?field"):
        found.versions("app")
