"""HTTP with servers that are not trusted: an answer comes to its end, and a password goes to nobody else."""
