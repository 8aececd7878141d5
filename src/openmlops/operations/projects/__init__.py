"""Projects of users: created from a folder of images, configured, examined."""
