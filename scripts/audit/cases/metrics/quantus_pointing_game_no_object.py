"""quantus, PointingGame: an image without the object is a hit; NaN, written into a column of booleans, is true."""

import numpy as np
import quantus

maps, masks = np.random.rand(2, 1, 4, 4), np.zeros((2, 1, 4, 4), dtype=int)
masks[0, 0, 0, 0] = 1
values = quantus.PointingGame(disable_warnings=True)(
    model=None, x_batch=np.random.rand(2, 3, 4, 4), y_batch=np.zeros(2, int), a_batch=maps, s_batch=masks
)
print("the second mask is empty:", values)
reproduced = bool(values[1]) is True
