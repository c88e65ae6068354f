"""Any Docker engine: find the one that answers, load images into it, run scripts in its containers."""
