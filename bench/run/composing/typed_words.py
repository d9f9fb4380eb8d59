"""The settings that users mean by words of other programs, such as n_jobs=4 or --methods a,b."""

from __future__ import annotations

from difflib import get_close_matches

PROCESSES = "executor=processes executor.count={value} for processes that compute"
DECODING = "data.workers={value} for processes that decode images"
GPU = "device=cuda for a GPU; CUDA_VISIBLE_DEVICES={value} in front of the command chooses which"
RESULTS = "results={value} for the folder of all runs, or run=NAME for the name of this run"
IMAGES = "data=folder data.root={value}"
THREADS = "OMP_NUM_THREADS={value} in front of the command"

# {word: what to type instead}. {value} is what the user typed, and {names} is the same as a list.
WORDS = {
    **dict.fromkeys(("n_jobs", "jobs", "processes", "nproc", "parallel"), PROCESSES),
    **dict.fromkeys(("executor.workers", "executor.n_jobs", "executor.processes"), PROCESSES),
    **dict.fromkeys(("workers", "num_workers"), f"{DECODING}, or {PROCESSES}"),
    **dict.fromkeys(("gpu", "gpus", "cuda", "device_id"), GPU),
    **dict.fromkeys(("threads", "num_threads"), THREADS),
    **dict.fromkeys(("models", "network", "networks", "arch"), "model={value}"),
    **dict.fromkeys(("methods", "cams"), '"method=[{names}]"'),
    "metrics": '"metric=[{names}]"',
    **dict.fromkeys(("dataset", "datasets"), "data={value}"),
    **dict.fromkeys(("layer", "layers", "target_layer", "target_layers"), "model.layer={value}"),
    **dict.fromkeys(("weights", "checkpoint"), "model.weights={value}"),
    **dict.fromkeys(("batch", "batch_size"), "data.batch_size={value}"),
    **dict.fromkeys(("images", "image_folder", "image_dir", "folder", "root"), IMAGES),
    **dict.fromkeys(("size", "num_images", "n_images", "limit"), "data.size={value}"),
    "classes": "data.classes={value}",
    "targets": "target={value}",
    "seed": "data.seed={value}",
    **dict.fromkeys(("output", "out", "output_dir", "results_dir", "outdir"), RESULTS),
    **dict.fromkeys(("name", "run_name"), "run={value}"),
    "precision": "device.precision={value}",
    **dict.fromkeys(("columns", "headline"), '"report.columns=[{names}]"'),
    "compare": "report.compare={value}",
}

# The settings that people type most.
SETTINGS = ("data", "device", "executor", "experiment", "method", "metric", "model", "report")
SIMILAR = 0.75  # share of equal letters, as difflib counts them, of a word with a typing error


def meant_setting(word: str) -> str:
    """Return the setting, or the known word, that a word with a typing error means.

    >>> meant_setting("modle"), meant_setting("colour")
    ('model', 'colour')
    """
    return next(iter(get_close_matches(word, (*SETTINGS, *WORDS), 1, SIMILAR)), word)


def instead_of(key: str, value: str) -> str | None:
    """Return what to type in the place of a word, or None if the word isn't known.

    Args:
        key: The word, such as "n_jobs" or "num-workers".
        value: The value that the user gave it; "" if none.

    >>> instead_of("batch-size", "16")
    'type data.batch_size=16'
    """
    advice = WORDS.get(key.lower().replace("-", "_"))
    if advice is None:
        return None
    names = value.strip("[]") or "A,B"
    return f"type {advice.format(value=value or 'VALUE', names=names)}"
