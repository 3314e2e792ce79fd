"""Appends a run's episodes to ``steps.jsonl``."""

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path

from synthfm_bench.results.episode_result import EpisodeResult, by_episode
from synthfm_bench.results.step_record import BadLine, StepRecord, as_lines, scan_steps
from synthfm_env.errors import InputError
from synthfm_env.files import write_text


class StepsFile:
    """``steps.jsonl`` as a run writes it: whole episodes, so that a killed run can be resumed.

    Opening the file for writing repairs it: bad lines, and the lines of episodes without an end, are taken out. An
    append writes one episode. If a full disk cuts it off, none of it counts.

    Args:
        path: made if it is missing.
        read_only: read it and change nothing.

    Attributes:
        episodes: the complete ones, by their ids.
        bad_lines: lines that are no records.
        incomplete: ids of episodes of which lines are missing or there twice.

    Raises:
        InputError: the file cannot be read.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.episodes: dict[str, EpisodeResult] = {}
        self.incomplete: list[str] = []
        found = list(scan_steps(path)) if path.exists() else []
        self.bad_lines = [line for line in found if isinstance(line, BadLine)]
        for episode_id, records in by_episode(line for line in found if isinstance(line, StepRecord)).items():
            self.incomplete.append(episode_id)
            with contextlib.suppress(InputError):  # one without its end is played again
                self.episodes[episode_id] = EpisodeResult.of(records)
                self.incomplete.pop()
        self._file: io.RawIOBase | None = None
        if not read_only:
            text = as_lines(record for episode in self.episodes.values() for record in episode.steps)
            if not path.is_file() or path.is_symlink() or path.read_bytes() != text.encode():
                write_text(path, text)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by __exit__

    def append(self, records: Iterable[StepRecord]) -> None:
        """Write one episode.

        Raises:
            ValueError: a record is none that could be read again.
            OSError: the disk is full, or the file cannot be written.
        """
        assert self._file is not None, "opened for writing"
        rest = memoryview(as_lines(records).encode())
        while rest:  # an unbuffered write may take a part
            rest = rest[self._file.write(rest) or 0 :]

    def __enter__(self) -> "StepsFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
