"""The audit as one HTML page that needs nothing but itself: no network, and no script to be read."""
