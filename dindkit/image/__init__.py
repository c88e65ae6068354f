"""From a recipe and its lock to an image: recipe, locks, assembly, the image's documents and its identity.

Knows nothing of engines.
"""
