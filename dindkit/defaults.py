"""What a command takes where its user names nothing: image, engine, suite."""

from __future__ import annotations

#: A folder of images/.
IMAGE = "dind"
#: docker-ce where its lock is committed, else docker.io.
ENGINE = "auto"
#: A suite of keys/archives.toml.
SUITE = "trixie"
