"""`invoke smoke`: prove, by running it, that Docker works in Docker, in each topology."""
