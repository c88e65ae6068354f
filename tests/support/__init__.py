"""Parts that several tests build on: real archives, keys and servers on loopback."""
