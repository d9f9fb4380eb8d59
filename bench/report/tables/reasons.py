"""Why a value is missing, in words: what the records' statuses mean."""

from __future__ import annotations

REASONS = {
    "bad_image": "image can't be read",
    "constant_map": "a map is the same everywhere",
    "constant_truth": "known contributions are the same everywhere",
    "no_annotation": "no box or mask of the class",
    "no_cells": "image is no mosaic",
    "no_contributions": "no contributions at the layer",
    "no_effect": "no part changes the score",
    "no_idle_part": "every part changes the score",
    "no_image": "no image has a value",
    "no_interventions": "no versions of the image without its parts",
    "no_mark": "no spurious mark in the image",
    "no_mask": "no mask of the class",
    "no_positive_effect": "no object or mark speaks for the class",
    "no_probability": "no probability of the class",
    "no_truth": "no known contributions",
    "no_variation": "map or score doesn't vary",
    "not_applicable": "can't explain this network",
    "not_finite": "no finite number",
    "not_on_score_scale": "not on the score's scale",
    "off_objects": "nothing of the map on an object",
    "one_class": "no second class in the image",
    "one_logit": "network has one class only",
    "wrong_class": "image shows other classes only",
    "zero_drops": "no channel changes the score",
    "zero_map": "map is zero everywhere",
    "zero_raw_map": "raw map is zero everywhere",
    "zero_score": "score is 0",
    "zero_truth": "no true evidence for the class",
}


def reason(status: str) -> str:
    """A status in words; one without an entry, as a plug-in may have, with spaces."""
    return REASONS.get(status, status.replace("_", " "))
