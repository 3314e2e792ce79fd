"""Injects a fault at any operation of a run: complete rows stay, and ``--resume`` gives the same results hash."""

import errno
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import synthfm_env.files
from synthfm_bench.execution import run as run_module
from synthfm_bench.execution.episode_runner import Player
from synthfm_bench.execution.foreign_calls import Watch
from synthfm_bench.execution.run import run_suite
from synthfm_bench.plan import make_plan
from synthfm_bench.results import steps_file
from synthfm_bench.results.run_directory import read_about
from synthfm_bench.results.steps_file import StepsFile
from synthfm_bench.suite import Suite, SyntheticData
from synthfm_env.errors import InputError, UserFacingError
from synthfm_env.folder_lock import LOCK_NAME

QUIET = Console(stderr=True, quiet=True)
SUITE = Suite(
    name="faulty",
    segmenters=("geodesic",),
    clickers=("random", "ritm-3d-v1"),
    clicks=2,
    data=(SyntheticData(kind="synthetic", name="s", shape=(4, 32, 32), cases=3),),
)
EPISODES = 6


class Killed(BaseException):
    """Stands for a kill: no later operation reaches the files."""


class HerePool:
    """Plays in this process, so that a fault hits any operation."""

    workers, busy_s, elapsed_s = 1, 0.0, 0.0

    def play(self, jobs, advance):
        player = Player(SUITE, "run")
        for job in jobs:
            for spec in job.specs:
                yield tuple(player.play(spec, Watch()))

    def close(self):
        pass


class Faults:
    """Counts operations on the disk, and fails at one of them."""

    def __init__(self, at, kind):
        self.left, self.kind, self.dead = at, kind, False

    def operation(self):
        if self.dead:
            raise Killed  # nothing is written after a kill
        self.left -= 1
        if self.left:
            return
        if self.kind == "kill":
            self.dead = True
            raise Killed
        if self.kind == "full disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.kind == "memory":
            raise MemoryError
        if self.kind == "interrupt":
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def plan():
    return make_plan(SUITE)


@pytest.fixture(scope="module")
def undisturbed(plan, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "_pool", lambda *given: HerePool())
        return run_suite(SUITE, plan, out=tmp_path_factory.mktemp("whole"), workers=1, console=QUIET).results_hash


def injected(patch, faults):
    """Let writes, in part, and replacements of files be the operations that fail."""

    class File:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            half = max(1, len(data) // 2)
            written = self._file.write(data[:half])  # a slow or nearly full disk takes a part
            faults.operation()
            return written

        def close(self):
            self._file.close()

        def __getattr__(self, name):
            return getattr(self._file, name)

    replace = os.replace

    def replaced(*names):
        faults.operation()
        replace(*names)

    def opened(path, mode="r", **given):
        return File(open(path, mode, **given)) if mode == "ab" else open(path, mode, **given)

    patch.setattr(run_module, "_pool", lambda *given: HerePool())
    patch.setattr(synthfm_env.files.os, "replace", replaced)
    patch.setattr(steps_file, "open", opened, raising=False)
    jumps = iter(range(0, 10**9, 10**6))
    patch.setattr(time, "time", lambda: float(next(jumps)))  # a clock that jumps


@given(
    at=st.integers(1, 40), kind=st.sampled_from(["kill", "full disk", "memory", "interrupt"]), again=st.integers(1, 25)
)
@settings(max_examples=12)
def test_a_fault_at_any_operation_leaves_good_rows_and_the_hash_is_reached(
    plan, undisturbed, tmp_path_factory, at, kind, again
):
    folder = tmp_path_factory.mktemp("faulty") / "run"
    kept = {}
    for attempt, when in enumerate((at, again, 10**9)):
        before = dict(kept)
        with pytest.MonkeyPatch.context() as patch:
            injected(patch, Faults(when, kind))
            resume = folder if (folder / "run.json").is_file() else None
            try:
                done = run_suite(SUITE, plan, out=folder, workers=1, console=QUIET, resume=resume)
            except (Killed, UserFacingError, MemoryError, KeyboardInterrupt, InputError):
                done = None
        assert done or attempt < 2
        clear_after_kill(folder)
        if (folder / "steps.jsonl").is_file():
            with StepsFile(folder / "steps.jsonl", read_only=True) as file:
                kept = dict(file.episodes)
                assert not file.bad_lines
        assert before.keys() <= kept.keys()
        assert all(kept[name].steps == before[name].steps for name in before)
        if done is not None:
            break
    assert done is not None
    assert done.results_hash == undisturbed
    assert len(kept) == EPISODES
    assert read_about(folder)["status"] == "finished"


def clear_after_kill(folder):
    """Do what the system does when a process ends: the lock is free. The lock file may stay."""
    assert not folder.exists() or {path.name for path in folder.iterdir() if path.name[0] == "."} <= {
        path.name for path in folder.iterdir() if synthfm_env.files.is_unfinished(path.name)
    }


def test_two_writers_of_one_run_are_told_apart(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "_pool", lambda *given: HerePool())
    run_suite(SUITE, plan, out=tmp_path / "run", workers=1, console=QUIET)

    class SecondWriter(HerePool):
        def play(self, jobs, advance):
            monkeypatch.setattr(run_module, "_pool", lambda *given: HerePool())
            with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is writing to it"):
                run_suite(SUITE, plan, out=None, workers=1, console=QUIET, resume=tmp_path / "run")
            yield from super().play(jobs, advance)

    lines = (tmp_path / "run" / "steps.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "run" / "steps.jsonl").write_text("".join(lines[:-1]))
    monkeypatch.setattr(run_module, "_pool", lambda *given: SecondWriter())
    done = run_suite(SUITE, plan, out=None, workers=1, console=QUIET, resume=tmp_path / "run")
    assert not (done.folder / LOCK_NAME).exists()


def test_a_finished_run_with_an_edited_record_is_not_gone_on_with(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "_pool", lambda *given: HerePool())
    run_suite(SUITE, plan, out=tmp_path / "run", workers=1, console=QUIET)
    steps, about = tmp_path / "run" / "steps.jsonl", (tmp_path / "run" / "run.json").read_text(encoding="utf-8")
    text = steps.read_text(encoding="utf-8")
    steps.write_text(text.replace('"fn_vox":', '"fn_vox":1', 1))
    with pytest.raises(InputError, match="they were changed since the run finished"):
        run_suite(SUITE, plan, out=None, workers=1, console=QUIET, resume=tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_text(encoding="utf-8") == about
    # One bad line in its place is repaired: the episode is played again.
    first, *others = text.splitlines(keepends=True)
    steps.write_text("".join(["garbage\n", *others]))
    run_suite(SUITE, plan, out=None, workers=1, console=QUIET, resume=tmp_path / "run")
    assert sorted(map(_untimed, steps.read_text(encoding="utf-8").splitlines())) == sorted(
        map(_untimed, text.splitlines())
    )
    assert first


def _untimed(line):
    from synthfm_bench.results.step_record import parse_line, results_hash

    return results_hash([parse_line(line)])
