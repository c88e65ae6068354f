"""The page on what changed between two images."""

from __future__ import annotations

from dindkit.review.changes import Changes
from dindkit.review.changes_text import difference
from dindkit.review.page.render import page


def render(found: Changes) -> str:
    """Return the whole page. Equal changes give equal pages."""
    kinds = sorted({one.change for one in found.packages})
    named = [
        (
            "privileges",
            "Set-uid, set-gid, capabilities",
            "What programs give to whoever runs them, and what everybody may write.",
            found.privileges,
        ),
        ("ports", "Ports", "Where something may listen.", found.ports),
        ("users", "Users", "Accounts, and whether a password opens them.", found.users),
        (
            "configuration",
            "Configuration",
            "What a container starts with, and the image's labels.",
            found.config,
        ),
        (
            "archives",
            "Archives",
            "The signed InRelease files behind the locks: dates go forward, signers stay.",
            found.archives,
        ),
    ]
    return page(
        "changes.html",
        changes=found,
        counts=[(kind, sum(one.change == kind for one in found.packages)) for kind in kinds],
        difference=difference,
        named=[one for one in named if one[-1] is not None],
        unexpected=[one for one in found.files or () if not one.expected],
    )
