"""`invoke cache.start`: run a registry on the engine that caches what nested daemons pull.

Each nested daemon begins with an empty image store.

With this cache as their mirror, they download each image from the network only once.
"""

from __future__ import annotations

import time
from typing import Any

import requests
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from dindkit.engine import discover, load
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import BuildOptions, build
from dindkit.progress import Progress
from dindkit.project import Project

#: The container, and the volume that outlives it.
NAME = "dindkit-cache"
STORE = "/var/lib/docker-registry"
PORT = 5000
#: The registry's environment variable for the URL of the registry that it caches.
UPSTREAM = "REGISTRY_PROXY_REMOTEURL"
#: The entrypoint's setting for the URL that `start` returns.
SETTING = "DIND_REGISTRY_MIRRORS"
#: Seconds within which the registry must answer.
READY = 30.0


def start(project: Project, progress: Progress, upstream: str) -> str:
    """Start the cache of the registry at `upstream` (a URL), and return its own URL for nested daemons.

    It listens on the gateway of the default bridge: containers reach it, and other machines do not.
    Raises EngineError where no engine answers, or where a cache of another registry runs.
    """
    if not upstream.startswith(("http://", "https://")):
        raise EngineError(
            f"'{upstream}' is no URL of a registry.", "Name it in full: https://registry.example"
        )
    engine = _engine(project)
    running = _container(engine)
    if running is not None:
        if f"{UPSTREAM}={upstream}" not in running.attrs["Config"]["Env"]:
            raise EngineError("A cache of another registry runs.", "Stop it first: invoke cache.stop")
        if running.status == "running":
            _wait(running)  # a killed `cache.start` may have left it unready
        else:
            _resume(running, progress)
        return _address(engine)
    image = build(project, BuildOptions(image="registry"), progress)
    load.load(engine, image, progress)
    policy: Any = {"Name": "unless-stopped"}
    try:
        container = engine.client.containers.run(
            image.reference,
            detach=True,
            name=NAME,
            environment={UPSTREAM: upstream},
            ports={f"{PORT}/tcp": (_gateway(engine), PORT)},
            restart_policy=policy,
            volumes=[f"{NAME}:{STORE}"],
        )
    except APIError as error:
        stop(project, progress)
        raise EngineError(f"The cache does not start: {error.explanation}.") from error
    try:
        with progress.step("start the cache"):
            _wait(container)
    except BaseException:
        stop(project, progress)
        raise
    return _address(engine)


def _resume(container: Container, progress: Progress) -> None:
    """Resume a cache that is stopped or paused. Raises EngineError where it does not answer."""
    try:
        with progress.step("start the cache"):
            if container.status == "paused":
                container.unpause()
            else:
                container.start()
            _wait(container)
    except APIError as error:
        cause = f"The cache does not start again: {error.explanation}."
        raise EngineError(cause, "Make it anew: invoke cache.stop, and start it again.") from error


def stop(project: Project, progress: Progress, purge: bool = False) -> None:
    """Stop the cache; with `purge`, delete what it has kept as well."""
    engine = _engine(project)
    running = _container(engine)
    if running is None:
        progress.note("The cache does not run.")
    else:
        running.remove(force=True)
    if purge:
        try:
            engine.client.volumes.get(NAME).remove()
        except NotFound:
            progress.note("The cache has kept nothing.")


def _engine(project: Project) -> Engine:
    engine = discover.find(project)
    if engine is None:
        raise EngineError("No Docker engine answers.", "Start Docker or Podman, or: invoke engine.start")
    return engine


def _container(engine: Engine) -> Container | None:
    try:
        return engine.client.containers.get(NAME)
    except NotFound:
        return None


def _gateway(engine: Engine) -> str:
    """Return the IPv4 address of the default bridge."""
    try:
        bridge = engine.client.networks.get("bridge").attrs
    except NotFound:
        bridge = {}
    entries = (bridge.get("IPAM") or {}).get("Config") or []
    gateways = [str(entry["Gateway"]).partition("/")[0] for entry in entries if entry.get("Gateway")]
    address = next((one for one in gateways if ":" not in one), None)
    if address is None:
        raise EngineError(
            f"The default bridge of {engine.host} has no IPv4 gateway for a cache to listen on.",
            "Start its daemon with a bridge, and IPv4.",
        )
    return address


def _address(engine: Engine) -> str:
    return f"http://{_gateway(engine)}:{PORT}"


def _wait(container: Container) -> None:
    deadline = time.monotonic() + READY
    # Asked from inside the container, because the engine may be on another machine.
    ask = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"]
    while True:
        container.reload()
        if container.status == "restarting" or time.monotonic() > deadline:
            last = container.logs(tail=1).decode(errors="replace").strip()
            raise EngineError(f"The cache does not answer: {last}")
        try:
            if container.exec_run(ask).exit_code == 0:
                return
        except (APIError, requests.RequestException):
            pass  # the engine is about to start it again
        time.sleep(0.1)
