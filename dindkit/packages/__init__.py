"""From pinned keys to exact packages: archives, signatures, solver, lock and download cache.

Knows nothing of images or engines.
"""
