"""The HTTP side: POST /clone with a field `url` answers with a tar; GET /health says whether it would."""

from __future__ import annotations

import tarfile
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from flask import Flask, Response, request, send_file

from cloner import urls
from cloner.clone import cloned, ready, sweep
from cloner.errors import ClonerError, NotReadyError
from cloner.settings import Settings


def create_app() -> Flask:
    """Return the service."""
    app = Flask("cloner")
    app.config["MAX_CONTENT_LENGTH"] = 16_384
    settings = Settings.from_environment()
    sweep(settings)

    @app.post("/clone")
    def clone() -> Response:
        url = urls.check(request.form.get("url", ""), settings.hosts)
        with cloned(url, settings) as tree:
            return send_file(_tar(tree), mimetype="application/x-tar", download_name="tree.tar")

    @app.get("/health")
    def health() -> str:
        ready(settings)
        return "ready\n"

    @app.errorhandler(ClonerError)
    def explain(error: ClonerError) -> tuple[dict[str, str], int, dict[str, str]]:
        app.logger.warning("%s %s: %s (%r)", request.method, request.path, error, error.__cause__)
        headers = {"Retry-After": "2"} if isinstance(error, NotReadyError) else {}
        return {"error": str(error)}, error.status, headers

    return app


def _tar(tree: Path) -> IO[bytes]:
    """Return `tree` as a tar, without git's own folder, in a file that has no name and so leaves nothing."""
    archive = TemporaryFile(dir=tree.parent)  # noqa: SIM115 - Flask closes it when it is sent
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(tree, arcname=".", filter=_entry)
    archive.seek(0)
    return archive


def _entry(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out `.git`, and the owner, which means nothing elsewhere."""
    if member.name == "./.git":
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
