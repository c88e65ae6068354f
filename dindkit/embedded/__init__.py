"""The image itself as this host's Docker engine: start it, stop it, and leave the host as it was."""
