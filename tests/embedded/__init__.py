"""Tests of dindkit.embedded."""
