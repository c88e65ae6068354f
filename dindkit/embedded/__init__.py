"""Run dockerd from the built image, in namespaces of this host, where no Docker is installed."""
