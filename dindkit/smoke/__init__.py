"""The proof: run Docker in Docker in each topology, and hold what happens to what must."""
