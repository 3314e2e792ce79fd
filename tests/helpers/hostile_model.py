"""Model behind the bridge that misbehaves as its argument asks, by default at its second prompt."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np

MOOD = sys.argv[1]


def misbehave(mask_file: str) -> dict:  # noqa: C901 - one case a mood
    match MOOD:
        case "dies":
            print("out of memory", file=sys.stderr, flush=True)
            os._exit(9)
        case "hangs":
            time.sleep(3600)
        case "garbage":
            print("Loading weights ...", flush=True)
        case "endless":
            while True:
                sys.stdout.write("x" * 65536)
        case "list":
            print("[1, 2]", flush=True)
        case "other-grid":
            return {"shape": [1, 2, 3]}
        case "short-file":
            os.truncate(mask_file, 5)
        case "seven":
            np.full(os.path.getsize(mask_file), 7, np.uint8).tofile(mask_file)
        case "missing-file":
            os.remove(mask_file)
        case "stale":
            return {"id": 1}
        case "refuses":
            return {"error": "input", "message": "only one click, please"}
        case "fails":
            return {"error": "model", "message": "CUDA\nout of memory"}
        case "strange-seconds":
            return {"seconds": ["soon", None]}
        case "endless-seconds":
            return {"seconds": [10**400, 1.0]}
        case "null-error":
            return {"error": None}
        case "loud":
            return {"error": "model", "message": "\x1b[2J" + "m" * 100_000}
        case "pipe":
            os.remove(mask_file)
            os.mkfifo(mask_file)
        case "giant-file":
            os.truncate(mask_file, 1 << 40)
        case "removes-folder":
            shutil.rmtree(os.path.dirname(mask_file))
        case "dies-with-child":
            subprocess.Popen(["sleep", "600"])
            os._exit(9)
    return {}


if MOOD == "dies-at-hello":
    sys.exit("no such weights")
if MOOD == "garbage-at-hello":
    print("Welcome!", flush=True)
if MOOD == "helper":
    with open(os.environ["HELPER"], "w") as file:
        print(subprocess.Popen(["sleep", "600"]).pid, os.getpid(), file=file)
shapes: dict[int, tuple[str, list[int]]] = {}
for line in sys.stdin:
    call = json.loads(line)
    answer: dict = {"id": call["id"]}
    if call["call"] == "hello":
        version = 99 if MOOD == "other-version" else 1
        abilities = {"telepathy": True} if MOOD == "other-abilities" else {}
        name = "\x1b[31m" + "n" * 100_000 if MOOD == "loud" else MOOD
        answer |= {"version": version, "name": name, "capabilities": abilities}
    elif call["call"] == "start":
        if MOOD == "dies-at-first-start" and not os.path.exists(sys.argv[2]):
            open(sys.argv[2], "w").close()
            os._exit(9)
        shapes[call["session"]] = call["mask"]["path"], call["mask"]["shape"]
    elif call["call"] == "prompt":
        path, shape = shapes[call["session"]]
        # The mask is all zeros but for as many voxels as there are clicks.
        voxels = np.zeros(shape, np.uint8)
        voxels.reshape(-1)[: sum(len(prompt["clicks"]) for prompt in call["prompts"])] = 1
        voxels.tofile(path)
        answer["shape"] = shape
        first_in_this_process = not os.environ.get("ONCE") or not os.path.exists(os.environ["ONCE"])
        if len(call["prompts"]) == 2 and first_in_this_process:
            if os.environ.get("ONCE"):
                open(os.environ["ONCE"], "w").close()
            answer |= misbehave(path)
    print(json.dumps(answer), flush=True)
