"""Human labelling: the queue of images to label, and example images.

Names of `openmlops.operations.labelling.queue` can still be imported from here, their former module.
"""

from openmlops.renamed import moved

__getattr__ = moved(
    __name__,
    "openmlops.operations.labelling.queue",
    request="current_request",
    ask="request_labels",
    logged="prediction_record",
    give="submit_label",
    with_drawn="label_from_boxes",
    answered_boxes="predicted_boxes",
    Logged="PredictionRecord",
    ToLabel="LabelRequest",
    Wanted="RequestedImage",
)
