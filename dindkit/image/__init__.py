"""From exact packages to an image: recipe, tree, sandbox, layer and OCI archive.

Knows nothing of engines.
"""
