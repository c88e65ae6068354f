"""The verbs around an engine: doctor, shell, cache and preload."""
