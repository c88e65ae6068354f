"""Every example, run from its own files."""
