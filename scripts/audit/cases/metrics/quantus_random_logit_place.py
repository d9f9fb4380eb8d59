"""quantus, RandomLogit: which class is compared depends on the image's place in the batch, and the similarity on the
map's rows: the SSIM is of a line of pixels.
"""

import numpy as np
import quantus
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval()
images = np.random.rand(2, 3, 8, 8).astype("float32")
drawn: list[list[int]] = []
maps = np.random.RandomState(0).rand(10, 8, 8)


def explain(model, inputs, targets, **_):
    drawn.append(targets.tolist())
    return maps[targets][:, None]


def across(model, inputs, targets, **_):
    return maps[targets].transpose(0, 2, 1)[:, None]


values = []
for method, batch in ((explain, images), (explain, images[:1]), (explain, images[1:]), (across, images)):
    classes = np.zeros(len(batch), int)
    metric = quantus.RandomLogit(num_classes=10, disable_warnings=True)
    own_maps = method(None, batch, classes)
    if method is explain:
        drawn.pop()
    values.append(
        metric(model=model, x_batch=batch, y_batch=classes, a_batch=own_maps, explain_func=method, device="cpu")
    )
print(f"classes of both images together: {drawn[0]}; of each alone: {drawn[1] + drawn[2]}")
print(f"of the same maps, and of all maps with rows and columns exchanged: {values[0][0]:.4f}, {values[3][0]:.4f}")
reproduced = drawn[0] != drawn[1] + drawn[2] and abs(values[0][0] - values[3][0]) > 0.001
