"""grad-cam, Coherency: 1e-8 in the denominator makes a constant map's correlation 0, and the coherency 0.5."""

import numpy as np
import torch
from pytorch_grad_cam.metrics.arcc import Coherency

maps = np.random.rand(1, 2, 2).astype("float32")
values = Coherency()(torch.ones(1, 3, 2, 2), maps, None, None, lambda **_: np.zeros((1, 2, 2), dtype="float32"))
print("the masked image's map is zero everywhere:", values)
reproduced = values[0] == 0.5
