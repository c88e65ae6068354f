"""The audit as one self-contained HTML page: it needs no network, and can be read without scripts.

What it looks like is in templates/, for Jinja2; the modules compute what the templates show.
"""
