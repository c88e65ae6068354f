"""Tests of dindkit.engine and of the entrypoint, against a running engine."""
