"""Assemble a minimal Debian Docker-in-Docker image from pinned, signed packages, and prove it.

Data flows one way: `packages` decides which exact bytes, `image` makes an image of them, `engine` runs it.
"""
