"""HTTP with untrusted servers: answers are limited in time, and a password goes only to its own server."""
