"""`invoke audit` and `invoke verify`: who signed an image's content, why it is there, what it may do.

Reads locks, keys and built images, and changes nothing.
"""
