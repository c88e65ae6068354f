"""The verbs that help to use an engine: doctor, shell, cache and preload."""
