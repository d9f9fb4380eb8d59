"""The preprocessing that weights expect: resize, centre crop, mean and std.

Boxes and masks follow the image.

Metrics compare boxes with heatmaps, so both must be in the pixels that the network sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from axiom_bench.cutting.interventions import Part, Parts
from axiom_bench.data.base import (
    BadImage,
    DataSet,
    Objects,
    Sample,
    StoredPart,
    classes_of,
    size_of,
)
from axiom_bench.data.batch import Annotation
from axiom_bench.data.formats.decoding import as_rgb, open_as_viewed
from axiom_bench.errors import BenchError, plural, type_name, unknown_name

GREY, RGB = 1, 3  # channels
WHITE = 255.0
LETTERBOX_GREY = 114  # around a letterboxed picture, as YOLO networks are trained
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of pixels in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)
# The attribute in which a network of timm keeps what its weights expect.
CONFIG = "pretrained_cfg"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")  # as torchvision names them
# The largest crop, as a multiple of the side after the resize. With a larger one more than half of
# what the network sees would be border.
MAX_CROP_RATIO = 2
# The largest crop in pixels of images that aren't resized. The network runs on a crop of this size
# before the first image is read.
MAX_UNRESIZED_CROP = 2048
# The most pixels after the resize: a 10,000 x 1 image with its shorter side at 256 would hold
# 655 million.
MAX_PIXELS = 100_000_000


def usual_normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return the mean and std of a network that a user built, and words for their origin.

    They are those that the network keeps, as timm's do, or otherwise ImageNet's.
    """
    config = getattr(network, CONFIG, None)
    if isinstance(config, Mapping) and config.get("mean") and config.get("std"):
        return tuple(config["mean"]), tuple(config["std"]), f"those in its {CONFIG}"
    return IMAGENET_MEAN, IMAGENET_STD, "ImageNet's"


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of one network.

    For pictures it equals torchvision's Resize, CenterCrop, ToTensor and Normalize on a PIL image
    bit by bit; for a grey network, after torchvision's Grayscale. Arrays aren't resized, cropped
    or scaled to [0, 1].

    Attributes:
        resize: The shorter side in pixels, or exactly (height, width), or None.
        crop: The side of the centre crop in pixels, or None.
        mean: One number per RGB channel, for values in [0, 1]; or one number for a network of grey
            images, to which images are converted. For arrays: one number per channel, or one, or
            none, for the array's own values.
        std: As many numbers as `mean`.
        interpolation: nearest, bilinear, bicubic or lanczos.
        scaled_decoding: If True, a JPEG that is at least twice as large as what it is resized to is
            decoded at a half, a quarter or an eighth of its size. This is faster and gives slightly
            different pixels.
        shape: (C, *space) of samples that are arrays; None for pictures.
        letterbox: If True and `resize` is a number, the longer side gets this length, and grey
            pixels fill a square around the picture. Pixels are interpolated without smoothing, as
            OpenCV does for YOLO networks.

    Raises:
        BenchError: For another interpolation or number of means and standard deviations, or a
            crop of more than MAX_CROP_RATIO times the side after the resize, or
            MAX_UNRESIZED_CROP pixels.
    """

    resize: int | tuple[int, int] | None
    crop: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    scaled_decoding: bool = False
    shape: tuple[int, ...] | None = None
    letterbox: bool = False

    def __post_init__(self) -> None:
        if self.shape is not None:
            self._check_for_arrays(self.shape[0])
            return
        if self.interpolation not in INTERPOLATIONS:
            raise unknown_name("interpolation", self.interpolation, INTERPOLATIONS)
        sides: tuple[int, ...] = ()
        if isinstance(self.resize, tuple):
            sides = self.resize
        elif self.resize:
            sides = (self.resize,)
        if self.crop is not None and sides and self.crop > MAX_CROP_RATIO * max(sides):
            raise BenchError(
                f"A crop of {self.crop} pixels from images resized to {max(sides)} would be "
                "border for more than half; set model.crop to at most "
                f"{MAX_CROP_RATIO * max(sides)}, or model.resize={self.crop} for larger images."
            )
        if self.crop is not None and not sides and self.crop > MAX_UNRESIZED_CROP:
            raise BenchError(
                f"A crop of {self.crop} pixels needs images that are resized; set "
                f"model.resize={self.crop} too, or model.crop to at most {MAX_UNRESIZED_CROP}."
            )
        # A picture has three channels, or one after its conversion to grey.
        if (len(self.mean), len(self.std)) not in ((GREY, GREY), (RGB, RGB)):
            raise BenchError(
                f"Images have {plural(len(self.mean), 'mean')} and "
                f"{plural(len(self.std), 'standard deviation')}; give three of each for an RGB "
                "network, one of each for a grey one. For other images use ab.explain or "
                "ab.evaluate."
            )

    def _check_for_arrays(self, channels: int) -> None:
        """Raise BenchError for settings that arrays with this number of channels can't have."""
        for setting, value in (("resize", self.resize), ("crop", self.crop)):
            if value is not None:
                raise BenchError(
                    f"model.{setting}={value} is for pictures, but these samples are arrays. Set "
                    f"model.{setting}=null, and store the arrays in the size that the network "
                    "expects."
                )
        counts = len(self.mean), len(self.std)
        if counts not in ((0, 0), (1, 1), (channels, channels)):
            raise BenchError(
                f"These samples have {channels} channels, and there are {counts[0]} means and "
                f"{counts[1]} standard deviations; set model.mean and model.std to one number for "
                "each channel, or both to null."
            )

    @property
    def size(self) -> tuple[int, ...] | None:
        """(H', W') of the images that the network takes; None if it is that of the stored image."""
        if self.shape is not None:
            return self.shape[1:]
        if self._square is not None:
            return self._square, self._square
        return self.resize if isinstance(self.resize, tuple) else None

    @property
    def _square(self) -> int | None:
        """The side of the square in the centre that the network takes; None for all pixels."""
        if self.letterbox and self.crop is None and isinstance(self.resize, int):
            return self.resize
        return self.crop

    @property
    def channels(self) -> int:
        """The channels of what the network takes: 3, or 1 for grey images, or those of an array."""
        return len(self.mean) if self.shape is None else self.shape[0]

    @overload
    def __call__(self, image: Sample) -> tuple[Tensor, Annotation]: ...

    @overload
    def __call__(self, image: str | PathLike[str] | Image.Image) -> Tensor: ...

    def __call__(self, image: object) -> object:
        """Return a photograph as the network takes it: (3, H', W') or (1, H', W'), float32.

        Args:
            image: A path or a PIL image; or a sample, for which its annotation in the same pixels
                is also returned.

        Raises:
            BenchError: For anything else, and for a photograph that can't be read.
            BadImage: For a sample, as `picture`.
        """
        if isinstance(image, Sample):
            return self.normalised(self.pixels(image)), self.annotation(image)
        if self.shape is not None:
            raise BenchError(
                "This network takes arrays, not photographs; give "
                "preprocessing.normalised(tensor) instead."
            )
        if not isinstance(image, str | PathLike | Image.Image):
            raise BenchError(
                f"Preprocessing takes a path or a PIL image, not {type_name(image)}; give "
                "PIL.Image.fromarray(array) of an array (H, W, 3) of bytes."
            )
        return self.from_photograph(open_as_viewed(image))

    def from_photograph(self, image: Image.Image, name: str = "") -> Tensor:
        """Return an image as the network takes it: (3, H', W') or (1, H', W').

        Raises:
            BenchError: If it wouldn't fit into memory.
        """
        try:
            return self.normalised(self.pixels(Sample(as_rgb(image), name)))
        except BadImage as error:
            raise BenchError(f"The image {error}.") from error

    def read(self, dataset: DataSet, index: int) -> Sample:
        """Read the image at this index of the data set, decoded as this preprocessing wants it."""
        if self.scaled_decoding and self.resize is not None:
            return dataset.read_scaled(index, self._resized)
        return dataset.read(index)

    def pixels(self, sample: Sample) -> Tensor:
        """Return the image resized and cropped, (3, H', W') or (1, H', W'), uint8; or an array.

        Raises:
            BadImage: As `picture`.
        """
        if isinstance(sample.image, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(sample.image))
        picture = self.picture(sample)
        content = bytearray().join(picture.tobytes("raw", band) for band in picture.getbands())
        return torch.frombuffer(content, dtype=torch.uint8).view(-1, picture.height, picture.width)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return pixels as the network takes them: float32, on their device.

        The bits are the same on every device: the divisors are tensors, since a GPU replaces the
        division by a number by a product, which rounds differently.

        Args:
            pixels: (..., 3, H', W') or (..., 1, H', W'), uint8; or an array's numbers
                (..., C, *space).
        """

        def constant(*values: float) -> Tensor:
            axes = 2 if self.shape is None else len(self.shape) - 1
            tensor = torch.tensor(values, dtype=torch.float32).view(-1, *(1,) * axes)
            return tensor.to(pixels.device, non_blocking=True)

        if self.shape is not None:
            # Arrays are used as they are, unless a mean is set.
            if not self.mean:
                return pixels.float()
            return pixels.float().sub(constant(*self.mean)).div_(constant(*self.std))
        return (
            pixels.to(torch.float32, copy=True)
            .div_(constant(WHITE))
            .sub_(constant(*self.mean))
            .div_(constant(*self.std))
        )

    def parts(self, image_id: str, size: tuple[int, ...], stored: Sequence[StoredPart]) -> Parts:
        """Return the parts of an image in the pixels of the preprocessed image.

        Pixels where the crop goes beyond the image belong to the last part. Parts that the crop
        cuts away are left out, except the last one.

        Args:
            image_id: The id of the image, for errors.
            size: (height, width) of the stored image; an array's space.
            stored: The parts as they are stored.

        Returns:
            The parts, with images as `pixels` returns them.

        Raises:
            BenchError: For parts that don't have what StoredPart says.
        """
        for part in stored:
            sizes = {part.mask.shape, *map(size_of, (*part.images, *part.bare))}
            fits = sizes == {size} and part.mask.dtype == bool and len(part.images) > 0
            if not fits or len(part.bare) not in (0, len(part.images)):
                raise BenchError(
                    f"The part {part.name!r} of the image {image_id!r} needs a mask of type bool "
                    f"and one or more images, each of {' x '.join(map(str, size))} pixels as the "
                    "image itself, and as many bare ones or none."
                )
        masks = np.stack([part.mask for part in stored])
        if (masks.sum(0) != 1).any():
            raise BenchError(
                f"The parts of the image {image_id!r} overlap, or leave out pixels; give each "
                "pixel to one part, and what is no object to the last, the ground."
            )

        def stacked(pictures: Sequence[object]) -> Tensor:
            return torch.stack([self.pixels(Sample(picture, image_id)) for picture in pictures])

        # Each pixel's part number, cropped as a mask: it is negative beyond the image.
        last = len(stored) - 1
        numbers = self._mask(masks.argmax(0), size)
        numbers = torch.where(numbers < 0, last, numbers)
        parts = []
        for number, part in enumerate(stored):
            if number == last or (numbers == number).any():
                bare = stacked(part.bare) if part.bare else None
                parts.append(
                    Part(part.name, part.label, numbers == number, stacked(part.images), bare)
                )
        return tuple(parts)

    def picture(self, sample: Sample) -> Image.Image:
        """Return the picture resized and cropped, before its values are scaled.

        Galleries show it, and `normalised` makes the network's input of its pixels.

        Raises:
            BadImage: If it wouldn't fit into memory.
        """
        image = sample.image
        height, width = self._resized(*sample.size)
        if height * width > MAX_PIXELS:
            raise BadImage(
                sample.image_id,
                f"{sample.size[1]} x {sample.size[0]} pixels would become {width} x {height} by "
                "the resize",
            )
        if self.channels == GREY:
            image = image.convert("L")
        if self.resize is not None:
            image = self.resize_to(image, (height, width))
        return self._cropped(image, LETTERBOX_GREY if self.letterbox else 0)

    def resize_to(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Return the image resized to exactly (height, width)."""
        resampling = Image.Resampling[self.interpolation.upper()]
        if not self.letterbox:
            return image.resize(size[::-1], resampling)
        # A transform samples single points, and a resize smooths before it makes a picture smaller.
        scales = (image.width / size[1], 0, 0, 0, image.height / size[0], 0)
        return image.transform(size[::-1], Image.Transform.AFFINE, scales, resampling)

    def _cropped(self, image: Image.Image, border: int = 0) -> Image.Image:
        """Return the centre; pixels are `border` where the crop is larger than the image."""
        if self._square is None:
            return image
        left, top = (crop_start(side, self._square) for side in image.size)
        if not border:
            return image.crop((left, top, left + self._square, top + self._square))
        colour = (border,) * len(image.getbands())
        square = Image.new(image.mode, (self._square, self._square), colour)
        square.paste(image, (-left, -top))
        return square

    def denormalise(self, images: Tensor) -> NDArray[np.uint8]:
        """Return images (B, 3, H', W') or (B, 1, H', W') of the network as pictures for people.

        The pictures are (B, H', W', 3) of bytes.
        """
        mean = torch.tensor(self.mean, dtype=torch.float32).view(-1, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float32).view(-1, 1, 1)
        pictures = (images.detach().cpu().float() * std + mean).clamp(0, 1) * 255
        rgb = pictures.round().to(torch.uint8).expand(-1, RGB, -1, -1)
        return rgb.permute(0, 2, 3, 1).numpy()

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) after the resize; torchvision truncates the longer side, too."""
        if self.resize is None:
            return height, width
        if not isinstance(self.resize, int):
            return self.resize
        short, long = sorted((height, width))
        if self.letterbox:
            scale = self.resize / long
            return max(round(height * scale), 1), max(round(width * scale), 1)
        longer = int(self.resize * long / short)
        return (self.resize, longer) if height <= width else (longer, self.resize)

    def annotation(self, sample: Sample) -> Annotation:
        """Return the sample's objects in the pixels of the preprocessed image."""
        size = sample.size
        if self.shape is None:
            height, width = self._resized(*size)
            stored_pixel: tuple[float, ...] = (width / size[1], height / size[0])
            labels, boxes = self._boxes(sample.objects, size, (height, width))
        else:
            stored_pixel = (1.0,) * len(size)
            labels = [label for label, _ in sample.objects]
            boxes = [[*map(float, box)] for _, box in sample.objects]
        return Annotation(
            labels=torch.tensor(labels, dtype=torch.long),
            boxes=torch.tensor(boxes).reshape(-1, 2 * len(size)),
            mask=None if sample.mask is None else self._mask(sample.mask, size),
            classes=classes_of(sample.label, sample.objects),
            stored_pixel=stored_pixel,
            cells=sample.cells,
        )

    def _boxes(
        self, objects: Objects, stored: tuple[int, ...], resized: tuple[int, int]
    ) -> tuple[list[int], list[list[float]]]:
        """Return labels and boxes, scaled, moved and clipped to the picture.

        Objects that the crop cuts away are left out.
        """
        stored_height, stored_width = stored
        height, width = resized
        seen_height = self._square or height
        seen_width = self._square or width
        top = crop_start(height, seen_height)
        left = crop_start(width, seen_width)
        labels: list[int] = []
        boxes: list[list[float]] = []
        for label, (x0, y0, x1, y1) in objects:
            xs = [min(max(x * width / stored_width - left, 0), seen_width) for x in (x0, x1)]
            ys = [min(max(y * height / stored_height - top, 0), seen_height) for y in (y0, y1)]
            if xs[0] < xs[1] and ys[0] < ys[1]:
                labels.append(label)
                boxes.append([xs[0], ys[0], xs[1], ys[1]])
        return labels, boxes

    def _mask(self, mask: NDArray[np.int64], stored: tuple[int, ...]) -> Tensor:
        """Return each pixel's class, of the nearest stored pixel; background beyond the image."""
        if self.shape is not None:
            return torch.from_numpy(mask)
        resized = self._resized(*stored)
        # Shifted by one: a crop is 0 outside of the picture, which is a class.
        picture = Image.fromarray(mask.astype(np.int32) + 1).resize(
            resized[::-1], Image.Resampling.NEAREST
        )
        return torch.from_numpy(np.asarray(self._cropped(picture)).astype(np.int64) - 1)


def crop_start(side: int, crop: int) -> int:
    """Return the start of torchvision's centre crop along one side.

    It is negative if torchvision pads, because the crop is larger than the image.

    Boxes are moved by it, so it must be the start that the pixels have.
    """
    return -((crop - side) // 2) if crop > side else round((side - crop) / 2)
