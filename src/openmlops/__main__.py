"""`python -m openmlops`: the command line, for where its script is not on the path."""

from openmlops.cli import main

if __name__ == "__main__":
    main()
