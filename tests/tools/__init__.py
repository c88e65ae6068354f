"""Tests of dindkit.tools."""
