"""The console: one page a model, in a browser. What it shows and does is read from and done by `operations`."""
