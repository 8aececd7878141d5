"""`python -m openmlops`: the same as the script `openmlops`."""

from openmlops.entry import main

if __name__ == "__main__":
    main()
