"""Tests of dindkit.bench."""
