"""Tests of dindkit.vm."""
