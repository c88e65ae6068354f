"""Tests of dindkit.sandbox."""
