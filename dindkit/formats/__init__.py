"""File formats; what is read is not trusted: .deb, tar, trees, layers, OCI archives, and their comparison.

Knows nothing of recipes, of the process that builds an image, or of engines.
"""
