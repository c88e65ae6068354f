"""What a reviewer asks of an image: who signed what is in it, why it is there, and what it may do.

Reads locks, keys and built archives; changes nothing.
"""
