"""Serve a model over synthfm's bridge: copy this file beside your model and fill in `load` and `segment`.

It needs NumPy alone. Play it with:  synthfm bench quick --segmenter "mine=bridge:/envs/mine/bin/python this_file.py"
"""

import json
import os
import sys

import numpy as np


def load():
    """Load the model once."""
    return None


def segment(model, image, spacing, prompts):
    """Return the mask that follows from all prompts so far: a ball around each positive click, as a placeholder.

    image: uint8 (D, H, W) or (D, H, W, 3), axes (z, y, x); spacing: (z, y, x) in mm; prompts: oldest first, each
    {"clicks": [[z, y, x, sign], ...], "box": [start, stop] or null, "mask": ...}, sign 1 positive, 0 negative.
    """
    mask = np.zeros(image.shape[:3], bool)
    grid = np.ogrid[tuple(slice(n) for n in mask.shape)]
    for *zyx, sign in (click for prompt in prompts for click in prompt["clicks"]):
        mask[sum(((g - i) * mm) ** 2 for g, i, mm in zip(grid, zyx, spacing, strict=True)) <= 100] = sign
    return mask


answers = os.fdopen(os.dup(1), "w")  # what the model prints goes to standard error instead
os.dup2(2, 1)
model, sessions = load(), {}
for line in sys.stdin:
    call, answer = json.loads(line), {}
    if call["call"] == "hello":
        answer = {"version": 1, "name": "mine", "capabilities": {"boxes": False, "initial_mask": False}}
    elif call["call"] == "start":
        files = (
            np.memmap(call[key]["path"], call[key]["dtype"], mode, shape=tuple(call[key]["shape"]))
            for key, mode in (("image", "r"), ("mask", "r+"))
        )
        sessions[call["session"]] = (*files, call["spacing"])
    elif call["call"] == "prompt":
        image, mask, spacing = sessions[call["session"]]
        mask[...] = segment(model, image, spacing, call["prompts"])
        answer = {"shape": list(mask.shape)}
    elif call["call"] == "close":
        sessions.pop(call["session"], None)
    print(json.dumps({"id": call["id"], **answer}), file=answers, flush=True)
