"""The import paths of pytorch_grad_cam.utils."""
