"""quantus: pixels are sorted by an unstable sort, and the order of pixels of equal value doesn't come from the image:
after a ReLU, which of the zeros count as highest depends on their number.
"""

import numpy as np
import quantus

shares = []
for side in (4, 32):
    maps, masks = np.zeros((1, 1, side, side)), np.zeros((1, 1, side, side), dtype=int)
    maps[0, 0, -1, -1] = 1  # every other pixel is 0
    masks[0, 0, 0] = 1  # the first row
    shares += quantus.TopKIntersection(k=4, disable_warnings=True)(
        model=None, x_batch=np.zeros((1, 3, side, side)), y_batch=np.zeros(1, int), a_batch=maps, s_batch=masks
    )
    print(f"{side} x {side}: of the pixels that rank second to fourth, {4 * shares[-1]:g} are in the first row")
reproduced = shares[0] != shares[1]
