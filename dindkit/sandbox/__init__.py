"""Where maintainer scripts run: namespaces of this host, or a container on a Docker engine.

A tree goes in as a tar stream, a script runs in it, the tree comes out.
"""
