"""``steps.jsonl`` as a run writes it, episode by episode."""

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path

from synthfm_bench.results.episode_result import Episode, by_episode
from synthfm_bench.results.run_directory import write_text
from synthfm_bench.results.step_record import StepRecord, as_lines, read_steps
from synthfm_env.errors import InputError


class StepsFile:
    """``steps.jsonl`` as a run writes it: whole episodes, so that a run that is killed can go on.

    What an earlier run left of an episode is taken away when the file is opened. An append is one write: of an episode
    that a full disk cut off, nothing counts.

    Args:
        path: made where it is missing.
        read_only: look at it alone.

    Raises:
        InputError: the file holds something else than records.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self._path = path
        self.episodes: dict[str, Episode] = {}
        steps = read_steps(path) if path.is_file() else []
        for records in by_episode(steps).values():
            with contextlib.suppress(InputError):  # one without its end is played again
                whole = Episode.of(records)
                self.episodes[whole.episode_id] = whole
        self._file: io.RawIOBase | None = None
        if not read_only:
            text = as_lines(record for episode in self.episodes.values() for record in episode.steps)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write_text(path, text)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by __exit__

    def append(self, records: Iterable[StepRecord]) -> None:
        """Write one episode."""
        assert self._file is not None, "opened to be written"
        rest = memoryview(as_lines(records).encode())
        while rest:  # an unbuffered write may take a part
            rest = rest[self._file.write(rest) or 0 :]

    def __enter__(self) -> "StepsFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
