"""Tests mirror the package; tests/engine needs a running engine."""
