"""Images of files: the index of a data set (index.py), and images that are read on demand (lazy.py)."""
