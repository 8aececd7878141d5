"""Human labelling: the queue of images to label, and example images.

Names of `openmlops.operations.labelling.queue` can still be imported from here, their former module.
"""

from openmlops.renamed import moved

__getattr__ = moved(__name__, "openmlops.operations.labelling.queue")
