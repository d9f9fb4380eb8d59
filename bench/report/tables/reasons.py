"""Why a value is missing, in words: what the records' statuses mean."""

from __future__ import annotations

REASONS = {
    "bad_image": "image can't be read",
    "no_annotation": "no box or mask of the class",
    "no_contributions": "no contributions at the layer",
    "no_effect": "no part changes the score",
    "no_idle_part": "every part changes the score",
    "no_interventions": "no versions of the image without its parts",
    "no_mark": "no spurious mark in the image",
    "no_mask": "no mask of the class",
    "no_positive_effect": "no object or mark speaks for the class",
    "no_probability": "no probability of the class",
    "no_truth": "no known contributions",
    "not_applicable": "can't explain this network",
    "not_finite": "no finite number",
    "not_on_score_scale": "not on the score's scale",
    "one_class": "no second class in the image",
    "zero_drops": "no channel changes the score",
    "zero_map": "map is zero everywhere",
    "zero_score": "score is 0",
    "zero_truth": "no true evidence for the class",
}


def reason(status: str) -> str:
    """A status in words; one without an entry, as a plug-in may have, with spaces."""
    return REASONS.get(status, status.replace("_", " "))
