"""The client of registries, against Debian's docker-registry."""
