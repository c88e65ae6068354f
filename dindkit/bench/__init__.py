"""How long builds, edits, loads and starts take, beside a peer in the same run."""
