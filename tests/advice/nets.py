"""Networks of a user, whose folder gets a copy of this file."""

from __future__ import annotations

import torch
from torch import nn


class Small(nn.Module):
    """Three classes, global average pooling."""

    def __init__(self, classes=3, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(4, classes)

    def forward(self, images):
        return self.fc(self.features(images).mean((2, 3)))


class WithAge(Small):
    """An image and an age (B, 1)."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def forward(self, image, age):
        return self.fc(torch.cat([self.features(image).mean((2, 3)), age], 1))


class Patches(nn.Module):
    """A small transformer: the layer `block` gives tokens (B, 16, 8)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.fc = nn.Linear(8, 3)

    def forward(self, images):
        return self.fc(self.block(self.patches(images).flatten(2).mT).mean(1))


class Queries(nn.Module):
    """A small DETR: four queries attend to patches of 8 x 8 pixels, and give a box each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.queries = nn.Parameter(torch.randn(4, 8))
        self.fc = nn.Linear(8, 3)
        self.boxes = nn.Linear(8, 2)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).mT[:, None]
        queries = self.queries.expand(len(images), 1, -1, -1)
        found = nn.functional.scaled_dot_product_attention(queries, tokens, tokens)[:, 0]
        corners = 8 * self.boxes(found).sigmoid()
        return torch.cat([corners, corners + 8], 2), self.fc(found)


def signal():
    """Three classes of one-dimensional signals of two channels."""
    torch.manual_seed(0)
    layers = [
        nn.Conv1d(2, 4, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ]
    return nn.Sequential(*layers)


class Tokens(Patches):
    """Patches from a linear layer, without any map, whose only layer of tokens is a linear one."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Linear(192, 8)

    def forward(self, images):
        patches = self.patches(nn.functional.unfold(images, 8, stride=8).mT)
        return self.fc(patches.mean(1))


class FixedSize(Small):
    """A network of 16 x 16 pixels."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4 * 16 * 16, 3)

    def forward(self, images):
        return self.fc(self.features(images).flatten(1))


class OfDict(WithAge):
    """A network that takes one dict."""

    def forward(self, batch):
        return super().forward(batch["image"], batch["age"])


def grey():
    """A network of grey pictures."""
    return Small(channels=1)


def of_classes(classes):
    """A network of so many classes, which have no default."""
    return Small(classes)


class MultiLabel(Small):
    """A network of labels that don't exclude each other."""

    def forward(self, images):
        return super().forward(images).sigmoid()
