"""Tests of dindkit.packages."""
