"""Tests of dindkit.web."""
