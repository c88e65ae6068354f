"""Assemble a minimal Debian Docker-in-Docker image from pinned, signed packages, and prove it.

Data flows one way: `packages` decides which exact bytes; `formats`, `sandbox` and `image` make an image of
them; `engine`, `embedded` and `smoke` run it.
"""
