"""quantus, AttributionLocalisation: weighted by the object's share of all images from the third on, not of its own."""

import numpy as np
import quantus

maps, masks = np.random.rand(4, 1, 2, 2), np.zeros((4, 1, 2, 2), dtype=int)
masks[:, 0, 0] = 1
maps[:] = masks + 0.001  # all but next to all energy in a mask of half the image
values = []
for count in (3, 4):
    metric = quantus.AttributionLocalisation(weighted=True, disable_warnings=True)
    batch = {"x_batch": np.zeros((count, 1, 2, 2)), "y_batch": np.zeros(count, int)}
    values.append(metric(model=None, a_batch=maps[:count], s_batch=masks[:count], **batch)[0])
    print(f"first of {count}, times its mask's share: {values[-1]:.3f}")
reproduced = abs(values[0] - values[1]) > 0.1
