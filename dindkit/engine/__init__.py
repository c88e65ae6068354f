"""Running the image: find a Docker engine, boot the image itself as one, and prove it with the smoke test."""
