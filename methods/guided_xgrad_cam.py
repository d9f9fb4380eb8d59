"""Guided XGrad-CAM: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312."""

from __future__ import annotations

from bench.heatmap import Map, heatmap
from bench.trace import Trace
from methods.guided_backpropagation import guided_gradient
from methods.xgrad_cam import xgrad_cam


def guided_xgrad_cam(trace: Trace) -> Map:
    """sum over RGB of |guided gradient|, times the XGrad-CAM heatmap at the image's size -> (B, H', W')."""
    raw_map = (xgrad_cam(trace) * trace.activations).sum(1)
    height, width = trace.images.shape[-2:]
    return Map(guided_gradient(trace).abs().sum(1) * heatmap(raw_map, (height, width)))
