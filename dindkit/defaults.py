"""The default image, engine and suite of every command."""

from __future__ import annotations

#: A folder of images/.
IMAGE = "dind"
#: docker-ce where its lock is committed, else docker.io.
ENGINE = "auto"
#: A suite of keys/archives.toml.
SUITE = "trixie"
