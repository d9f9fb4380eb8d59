"""grad-cam, FinerCAM: the classes compared with are weighted by their probability, and these weights are
differentiated; its comparison strength is 1.

Class: documented choice
Ours: Grad-CAM of S_c - gamma mean_d S_d, gamma 0.6 and 3 classes, as in the paper, and in its authors' code until 11
    March 2025; since then that code has alpha = 1 and the weights that grad-cam has.
Theirs: grad-cam pytorch_grad_cam/utils/model_targets.py: It obtains a weight for each comparison category from the
    softmax probabilities of the model output
Theirs: torchcam torchcam/methods/gradient.py: gamma: comparison strength applied to the mean reference score
Photographs: finer_cam@pytorch_grad_cam, finer_cam@torchcam
"""

import torch
from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

logits = torch.tensor([3.0, 2.0, 0.0, -1.0], requires_grad=True)
score = FinerWeightedTarget(0, [1, 2, 3], alpha=1)(logits)
(gradient,) = torch.autograd.grad(score, logits)
shares = logits.detach().softmax(0)[1:]
fixed = (shares * (logits[0] - logits[1:])).sum() / shares.sum()
(without,) = torch.autograd.grad(fixed, logits)
plain = 3.0 - logits.detach()[1:].mean().item()
print(f"score {score.item():.4f}; weights fixed {fixed.item():.4f}; mean of the differences, unweighted {plain:.4f}")
print("gradient      ", [round(value, 4) for value in gradient.tolist()])
print("weights fixed ", [round(value, 4) for value in without.tolist()])
reproduced = (
    abs(score.item() - fixed.item()) < 1e-5
    and abs(score.item() - plain) > 0.1
    and not torch.allclose(gradient, without, atol=0.01)
)
