"""quantus, PointingGame: every pixel at the maximum points; a map that is 1 in all of the image but a corner hits
wherever the object is.
"""

import numpy as np
import quantus

maps, masks = np.ones((2, 1, 4, 4)), np.zeros((2, 1, 4, 4), dtype=int)
maps[:, 0, 0, 0] = 0
masks[0, 0, 0, 3] = masks[1, 0, 3, 0] = 1
values = quantus.PointingGame(disable_warnings=True)(
    model=None, x_batch=np.random.rand(2, 3, 4, 4), y_batch=np.zeros(2, int), a_batch=maps, s_batch=masks
)
print("object above on the right, object below on the left:", values)
reproduced = all(values)
