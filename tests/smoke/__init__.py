"""Tests of dindkit.smoke."""
