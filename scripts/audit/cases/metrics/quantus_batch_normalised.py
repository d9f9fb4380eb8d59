"""quantus: by default (normalise, normalise_func) maps are divided by the largest value of all images, so an image's
value depends on the others.
"""

import numpy as np
import quantus

maps = np.array([[1.0, 0.5, 0.25, 0], [1e6, 0, 0, 0]]).reshape(2, 1, 2, 2)
values = []
for count in (1, 2):
    values.append(
        quantus.EffectiveComplexity(disable_warnings=True)(
            model=None,
            x_batch=np.zeros((count, 3, 2, 2)),
            y_batch=np.zeros(count, int),
            a_batch=maps[:count],
            channel_first=True,
        )[0]
    )
    print(f"first of {count}: {values[-1]}")
reproduced = values[0] != values[1]
