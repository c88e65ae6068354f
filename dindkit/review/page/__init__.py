"""The audit as one self-contained HTML page: it needs no network, and can be read without scripts."""
