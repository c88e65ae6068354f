"""Tests of dindkit.image."""
