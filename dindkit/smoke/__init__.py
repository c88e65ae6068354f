"""`invoke smoke`: run Docker in Docker in each topology, and check what happens."""
