"""Labelling by people: the queue of images that are worth a label, and example images.

Names of `openmlops.operations.labelling.queue` are found here too, where they were before.
"""

from openmlops.renamed import moved

__getattr__ = moved(__name__, "openmlops.operations.labelling.queue")
