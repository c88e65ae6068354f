"""Tests of the engine wing and of the entrypoint, against a running engine."""
