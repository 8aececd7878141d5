"""`python -m openmlops`: how the demo starts its server. Pipelines want the script `openmlops`.

Started from here, ZenML takes the package's own folder for the source root and imports its modules a second time.
"""

from openmlops.cli import main

if __name__ == "__main__":
    main()
