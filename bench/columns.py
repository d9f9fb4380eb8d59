"""Columns of the records, and special values in them, for the code that writes them and the code
that reads them.
"""

from __future__ import annotations

RECORD_COLUMNS = (
    "experiment", "model", "layer", "data", "image_id", "target_class", "predicted_class",
    "method", "metric", "value", "status",
)  # fmt: skip
CURVE_COLUMNS = ("image_id", "target_class", "method", "curve", "points", "status")
RUNTIME_COLUMNS = (
    "model", "layer", "data", "method", "step", "milliseconds_per_image", "forwards", "batch_size", "device",
    "trunk_forward", "trunk_backward", "head_forward", "head_backward", "peak_memory_bytes",
)  # fmt: skip

LAYER = "-"  # the method of a value that is a property of the layer, of no method
WHOLE_SET = "*"  # the image id of a value of the whole data set
OBJECT = (
    "//"  # in the id of an object that is explained alone, between the image's id and its number
)
UNKNOWN_CLASS = -1
OK = "ok"  # the status of a value that is defined
NOT_FINITE = "not_finite"
NO_MAP = "no_map"  # the method has no map of the image, or none of what a metric changed
NOT_APPLICABLE = (
    "not_applicable"  # the method can't explain this model, or the metric isn't of such data
)
NO_IMAGE = "no_image"  # no image has the curve that a value of the whole data set is made of

# Values below are float32's rounding: a method that is exact in theory has such errors, and no
# method is better than another by them. They all print the same, and so tie.
FLOAT32_ROUNDING = 1e-6
