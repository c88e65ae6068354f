"""Tests of the image wing."""
