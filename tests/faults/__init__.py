"""Faults put into runs: a signal at any moment of any verb, and what is left of it on the host."""
