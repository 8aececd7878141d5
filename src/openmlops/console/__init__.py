"""The console: a web page per model. It displays and acts through `operations`."""
