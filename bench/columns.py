"""The columns of the records and the special values in them, shared by the code that writes records
and the code that reads them.
"""

from __future__ import annotations

RECORD_COLUMNS = (
    "experiment", "model", "layer", "data", "image_id", "target_class", "predicted_class",
    "method", "metric", "value", "status",
)  # fmt: skip
CURVE_COLUMNS = ("image_id", "target_class", "method", "curve", "points", "status")
RUNTIME_COLUMNS = (
    "model", "layer", "data", "method", "step", "milliseconds_per_image", "forwards", "batch_size",
    "device", "trunk_forward", "trunk_backward", "head_forward", "head_backward",
    "peak_memory_bytes",
)  # fmt: skip

LAYER = "-"  # the method of a value that is a property of the layer, and of no method
WHOLE_SET = "*"  # the image id of a value of the whole data set
# An object that is explained on its own has the id IMAGE//NUMBER.
OBJECT = "//"
UNKNOWN_CLASS = -1

# The status of a value:
OK = "ok"  # the value is defined
NOT_FINITE = "not_finite"
NO_MAP = "no_map"  # the method has no map of the image, or of the image that a metric changed
# The method can't explain this model, or the metric can't be measured on this data.
NOT_APPLICABLE = "not_applicable"
NO_IMAGE = "no_image"  # no image has the curve from which a value of the whole data set is computed

# Smaller values are float32's rounding: a method that is exact in theory has such errors, and they
# make no method better than another. They all print the same, and so tie.
FLOAT32_ROUNDING = 1e-6
