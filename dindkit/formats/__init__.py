"""File formats, read and written without trust: .deb, tar, trees, layers, OCI archives, and their comparison.

Knows nothing of recipes, of the process that builds an image, or of engines.
"""
