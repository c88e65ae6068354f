"""Tests of dindkit.formats."""
