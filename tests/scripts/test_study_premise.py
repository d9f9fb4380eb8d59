"""The premise: which residuals are called small, and least at the last layer."""

import pandas as pd
import study_premise as study


def test_a_residual_is_small_and_least_by_its_median_over_images_in_each_training(monkeypatch):
    network = study.Network("net", ("a", "b", "c", "d"), (), ("", "_seed1"))
    monkeypatch.setattr(study, "NETWORKS", (network,))
    by_layer = {"net": [0.4, 0.3, 0.2, 0.05], "net_seed1": [0.4, 0.09, 0.2, 0.3]}
    images = [("one", 0.5), ("two", 1), ("three", 100)]  # the median is that of "two"
    rows = [
        {"model": model, "layer": layer, "metric": metric, "method": "-", "image_id": image, "target_class": 0,
         "value": value * factor, "status": "ok"}
        for model, values in by_layer.items()
        for layer, value in zip(network.layers, values, strict=True)
        for image, factor in images
        for metric in study.RESIDUALS
    ]  # fmt: skip
    rows += [
        {**row, "metric": "sensitivity_error", "method": method, "value": error}
        for row in rows[:: len(study.RESIDUALS)]
        for method, error in (("grad_cam", 1.0), ("xgrad_cam", 1.0 if row["layer"] == "a" else 0.5))
    ]

    header, line = study.lines(study.rows_of(pd.DataFrame(rows)))
    shown = dict(zip(header, line, strict=True))
    assert shown["zeta, by layer"].split("; ")[3] == "0.175 (0.0500 to 0.300)"
    assert shown["zeta small"] == shown["epsilon least at the last"] == "1 of 2"
    assert shown["sensitivity error below Grad-CAM's, by layer"] == "0 %; 100 %; 100 %; 100 %"
