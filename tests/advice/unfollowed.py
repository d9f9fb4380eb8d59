"""Refusals whose advice no test here follows, each with the reason."""

from __future__ import annotations

INSTALLS = "tests install nothing"
TRANSFORMERS = "transformers takes too long; tests/models/test_checkpoints.py loads checkpoints"
HUB = "it needs the Hugging Face Hub; tests/models/test_checkpoints.py has the messages"
WORDS = "it needs a network that says texts; tests/models/test_words.py has one and its messages"
ULTRALYTICS = "it needs ultralytics; tests/models/test_yolo.py loads its networks where it is"
SUITE = "a suite takes minutes"
UNFOLLOWED = {  # the reason for words that only one refusal has in "FILE: TEXT"
    "says no text, so it has no --words": WORDS,
    "{name} needs a prompt": WORDS,
    "says no text about an image, which model.output": WORDS,
    "The vision tower of {} has no list of blocks": WORDS,
    "The text has {} tokens": WORDS,
    "NIfTI files need nibabel: pip install": INSTALLS,
    "COCO's regions need pycocotools: pip install": INSTALLS,
    "Networks of transformers need it: pip install": INSTALLS,
    "timm's models need timm: pip install": INSTALLS,
    "A network of timm needs timm: pip install": INSTALLS,
    "{url} needs a package that isn't installed: pip install": INSTALLS,
    "{distribution} can't be imported ({error}): pip install": INSTALLS,
    "No values of the suite {suite} are in this installation": SUITE,
    "{} differs from what the suite {suite} froze": SUITE,
    "bench/records/submissions.py: {folder} holds files other than a submission": SUITE,
    "bench/records/submissions.py: {folder} is no folder": SUITE,
    "is of another suite {} than this installation's": "it needs another installed version",
    "The gradient of {network} fails": "only the author of the network knows what to change in it",
    "The network is on several devices ({places})": "it needs two devices",
    "executor=processes has one process for each GPU": "each process imports torch for 10 s",
    "Dask's workers may start no process": "it needs a cluster with an environment variable",
    "A single image doesn't fit into the memory": "it needs a machine without free memory",
    "; the others would take about": "it needs a full disk",
    "The process that read {} ended by {}": "it needs a decoder that ends its process",
    "names data by URL, which would be fetched": "it needs a server",
    "The file of pictures has {} MB": "it needs workers of Dask, which take a minute to start",
    "The labels of {} aren't classes of {}, so no question": "experiment=voc needs photographs",
    "bench/cli/racing/command.py: {} has random weights": "tests/cli/test_choose.py has the race",
    "No method has values of {names}; choose others": "each network of these tests has values",
    "No image can be pasted": "it needs photographs with masks",
    "proposes other regions for each image; make it": "a two-stage detector takes too long",
    "model=huggingface explains image classifiers": TRANSFORMERS,
    "model=huggingface needs a checkpoint": TRANSFORMERS,
    "{name} has classes of its own; leave out": TRANSFORMERS,
    "{name} is a network of timm; set": TRANSFORMERS,
    "{name} has a network of timm; set": TRANSFORMERS,
    "of another shape than its configuration with": TRANSFORMERS,
    "Two captions have the same first {most} tokens": TRANSFORMERS,
    "The configuration of {name} has no": TRANSFORMERS,
    "isn't in the cache of Hugging Face and can't be downloaded": TRANSFORMERS,
    "and HF_HUB_OFFLINE forbids a download": HUB,
    "lacks a file of a checkpoint of transformers": HUB,
    "{} has {} annotation files, such as {}": "tests/data/layouts/test_coco.py reads such folders",
    "{name} is a file of weights; set model=NAME": ULTRALYTICS,
    "model=yolo needs ultralytics, whose licence": INSTALLS,
    "model=yolo needs a .pt file of ultralytics": ULTRALYTICS,
    "ultralytics can't load {file}": ULTRALYTICS,
    "ends in a head {head}": ULTRALYTICS,
    "head has no boxes with nms={nms}": ULTRALYTICS,
    "A YOLO takes images whose sides are multiples": ULTRALYTICS,
    "are a YOLO of ultralytics, a pickled network": ULTRALYTICS,
    "can't be read as a checkpoint of transformers": TRANSFORMERS,
    "so it isn't known which is no object": TRANSFORMERS,
    "has no weights called {name}; set model.weights=as_built for those of": TRANSFORMERS,
    "The game would have {size} MB": "it needs a game of many large pictures",
    "Shapley values of {} parts need {} sets": "tests/methods/test_spoiled.py runs the other",
    "Shapley values need the other grounds without any object": "the same as for too many parts",
    "can't be read: it holds Python objects, which are never loaded; save the map by": (
        "tests/auditing/test_drawn_maps.py saves numbers"
    ),
    "is no KEY=VALUE; write --with": "tests/cli/test_audit.py has a function with settings",
    "or of other modules ({}: {error})": "as the same message without an error, which is followed",
}
