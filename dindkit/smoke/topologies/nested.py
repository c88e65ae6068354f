"""Three levels, each with a line by scripts/hello.sh: a machine, a daemon's container, one inside that."""

from __future__ import annotations

from pathlib import Path

from docker.types import Mount

from dindkit.engine import images
from dindkit.engine.daemon_settings import settings
from dindkit.errors import EngineError
from dindkit.smoke.context import Node, SmokeContext


def check(context: SmokeContext) -> None:
    """Say hello on every level and check who answered; raises EngineError naming the level that failed."""
    saved = _saved(context)
    with context.part("level 0, the engine's machine,"):
        context.machine.run("cp", context.machine.script, context.folder / "hello.sh")
        context.machine.run("sh", context.folder / "hello.sh")
    app = Mount("/app", str(context.folder), type="bind")
    with context.node("level-1 daemon", mounts=[app], environment=settings()) as daemon:
        with context.progress.step("level 1"), context.part("level 1", daemon):
            daemon.call("sh", "/app/hello.sh", env={"LEVEL": "1"})
            daemon.wait()
        with context.progress.step("level 2"), context.part("level 2", daemon):
            if saved:
                image = daemon.call("docker", "load", "--input", f"/app/{saved.name}").rpartition(": ")[2]
                saved.unlink()
            elif context.nested_image:
                image = _fetch(daemon, context.nested_image)
            else:
                image = context.load_base(daemon)
            innermost = _innermost(daemon, image)
        with context.part("the check", daemon):
            inner = daemon.call("docker", "info", "--format", "{{.ID}}")
            _check(context, innermost, inner)


def _saved(context: SmokeContext) -> Path | None:
    """Return the archive of the nested image in the shared folder, or None where the engine has none.

    None also where no folder is shared with the engine's machine. An image that this engine has is not pulled
    again; the user's own images are in no registry.
    """
    if not (context.nested_image and context.machine.is_here):
        return None
    if images.find(context.engine, context.nested_image) is None:
        return None
    archive = context.folder / "nested.tar"
    with context.progress.step(f"save {context.nested_image}") as step, archive.open("wb") as file:
        images.save(context.engine, context.nested_image, file, step.advance)
    return archive


def _fetch(daemon: Node, image: str) -> str:
    try:
        daemon.call("docker", "image", "inspect", image)
    except EngineError:
        daemon.call("docker", "pull", image)
    return image


def _innermost(daemon: Node, image: str) -> str:
    """Run the level-2 container to its end and return its id."""
    options = ("--volume", "/app:/app", "--env", "LEVEL=2")
    container = daemon.call("docker", "create", *options, image, "sh", "/app/hello.sh")
    daemon.call("docker", "start", "--attach", container)
    return container


def _check(context: SmokeContext, innermost: str, inner_daemon: str) -> None:
    """Print the three lines, and compare them with what the daemons say."""
    lines = context.machine.run("cat", context.folder / "log.txt").splitlines()
    for line in lines:
        context.progress.note(line)
    said = [(line.split()[3], line.split()[6]) for line in lines]
    levels, hosts = [level for level, _ in said], [host for _, host in said]
    if levels != ["0", "1", "2"]:
        raise EngineError(f"log.txt holds the levels {levels}, and not 0, 1, 2.")
    if len(set(hosts)) != 3:
        raise EngineError(f"The three levels are not three hosts: {', '.join(hosts)}.")
    if not innermost.startswith(hosts[2]):
        raise EngineError(f"Level 2 calls itself {hosts[2]}, but its container is {innermost[:12]}.")
    if inner_daemon == context.engine.client.info().get("ID"):
        raise EngineError("Level 1 talks to the daemon of the host, and not to one of its own.")
