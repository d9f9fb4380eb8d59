"""quantus: maps are divided by the largest value of all images, so an image's value depends on the others."""

import numpy as np
import quantus

maps = np.array([[1.0, 0.5, 0.25, 0], [1e6, 0, 0, 0]]).reshape(2, 1, 2, 2)
found = []
for count in (1, 2):
    found.append(
        quantus.EffectiveComplexity(disable_warnings=True)(
            model=None,
            x_batch=np.zeros((count, 3, 2, 2)),
            y_batch=np.zeros(count, int),
            a_batch=maps[:count],
            channel_first=True,
        )[0]
    )
    print(f"first of {count}: {found[-1]}")
seen = found[0] != found[1]
