"""From a recipe and its lock to an image: the recipe, its locks, assembly, the image's documents, its identity.

Knows nothing of engines.
"""
