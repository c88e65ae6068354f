"""`invoke push`: a small client of the OCI distribution specification.

It pushes images as they were built.
"""
