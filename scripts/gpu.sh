#!/bin/sh
# All that a machine with a GPU is to tell, in ten minutes at most: `scripts/gpu.sh [FOLDER]`, see scripts/gpu.py.
# `scripts/gpu.sh --cpu FOLDER` is the same on the CPU, with a few images: it shows that everything runs.
cd "$(dirname "$0")/.." || exit 2
exec "${PYTHON:-.venv/bin/python}" scripts/gpu.py "$@"
