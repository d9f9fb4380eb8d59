"""quantus, EffectiveComplexity: the number of pixels above 1e-5, as its docstring says, without a run of the model; the
paper that it cites wants the fewest pixels that keep the prediction.
"""

import numpy as np
import quantus

values = quantus.EffectiveComplexity(disable_warnings=True)(
    model=None,
    x_batch=np.zeros((1, 3, 2, 2)),
    y_batch=np.zeros(1, int),
    a_batch=np.array([[[[1, 0.5], [0.25, 0]]]]),
    channel_first=True,
)
print("without any model:", values)
reproduced = values[0] == 3
