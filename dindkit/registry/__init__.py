"""A small client of the OCI distribution specification, and the verb that brings an image to a registry.

What is pushed is the archive that the build made: nothing is solved, configured or decided here.
"""
