"""quantus, RandomLogit: which class is compared depends on the image's place in the batch, and the similarity on the
map's rows: the SSIM is of a line of pixels.
"""

import numpy as np
import quantus
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval()
images, asked = np.random.rand(2, 3, 8, 8).astype("float32"), []
maps = np.random.RandomState(0).rand(10, 8, 8)


def explain(model, inputs, targets, **_):
    asked.append(targets.tolist())
    return maps[targets][:, None]


def across(model, inputs, targets, **_):
    return maps[targets].transpose(0, 2, 1)[:, None]


found = []
for method, batch in ((explain, images), (explain, images[:1]), (explain, images[1:]), (across, images)):
    classes = np.zeros(len(batch), int)
    metric = quantus.RandomLogit(num_classes=10, disable_warnings=True)
    shown = method(None, batch, classes)
    if method is explain:
        asked.pop()
    found.append(metric(model=model, x_batch=batch, y_batch=classes, a_batch=shown, explain_func=method, device="cpu"))
print(f"classes of both images together: {asked[0]}; of each alone: {asked[1] + asked[2]}")
print(f"of the same maps, and of all maps with rows and columns exchanged: {found[0][0]:.4f}, {found[3][0]:.4f}")
seen = asked[0] != asked[1] + asked[2] and abs(found[0][0] - found[3][0]) > 0.001
