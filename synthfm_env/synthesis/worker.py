"""Draws synthetic volumes on request in a process: ``python -m synthfm_env.synthesis.worker``.

The first line on standard input is a JSON object with the generator's ``shape`` and ``recipe``; each further line is a
seed. Each volume goes to standard output as one line of JSON without the arrays, then image and label as ``.npy``.
"""

import json
import os
import subprocess
import sys
import weakref
from contextlib import suppress
from typing import IO

import numpy as np

from synthfm_env.synthesis.generator import SynthFM3D
from synthfm_env.volumes import Volume


class VolumeWorker:
    """A child process that draws volumes as ``generator.sample`` does, one after the other.

    It is a fresh interpreter that imports this module alone, so that scripts need no ``if __name__ == "__main__"``.

    Args:
        generator: on a CPU.

    Raises:
        OSError: from any method: the process could not be started, or ended.
    """

    def __init__(self, generator: SynthFM3D) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "synthfm_env.synthesis.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
        # The process ends with this object, or with the program, if nobody calls `close`.
        self._end = weakref.finalize(self, _end, self._process)
        self._send(json.dumps({"shape": generator.shape, "recipe": generator.recipe.model_dump(mode="json")}))

    def sample(self, seed: int) -> Volume:
        """Return the volume of a seed, byte for byte as ``generator.sample`` returns it."""
        self._send(str(seed))
        assert self._process.stdout is not None
        return _read_volume(self._process.stdout)

    def close(self) -> None:
        """End the process. May be called twice."""
        self._end()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()


def _end(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    process.terminate()
    process.wait()


def _read_volume(stream: IO[bytes]) -> Volume:
    """Read a volume that ``_write_volume`` wrote; raise EOFError at the end of the stream."""
    line = stream.readline()
    if not line:
        raise EOFError("the process that draws volumes ended")
    about = json.loads(line)
    image, label = (np.lib.format.read_array(stream, allow_pickle=False) for _ in range(2))
    spacing = about["spacing"]
    return Volume(
        image,
        label,
        spacing=(spacing[0], spacing[1], spacing[2]),
        modality=about["modality"],
        case_id=about["case_id"],
        structures={int(key): name for key, name in about["structures"].items()},
        metadata=about["metadata"],
    )


def _write_volume(stream: IO[bytes], volume: Volume) -> None:
    """Write a volume: a line of JSON, then image and label as .npy."""
    about = {
        "spacing": volume.spacing,
        "modality": volume.modality,
        "case_id": volume.case_id,
        "structures": volume.structures,
        "metadata": volume.metadata,
    }
    stream.write(json.dumps(about).encode() + b"\n")
    for array in (volume.image, volume.label):
        np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    stream.flush()


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    generator = SynthFM3D(**json.loads(source.readline()))
    for line in source:
        _write_volume(sink, generator.sample(int(line)))


if __name__ == "__main__":
    with suppress(BrokenPipeError, KeyboardInterrupt):  # the parent ended, or the user did it for both
        _serve(sys.stdin.buffer, sys.stdout.buffer)
