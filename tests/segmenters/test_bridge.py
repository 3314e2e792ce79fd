"""Tests models in other processes: the same masks, and a typed outcome for each misbehaviour."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import ended, soon

from synthfm_env.errors import InputError, SegmenterError, SegmenterTimeoutError
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.bridge import BridgeSegmenter
from synthfm_env.segmenters.bridge.protocol import encode, prompt_message
from synthfm_env.testing import check_segmenter

HERE = Path(__file__).parents[1] / "helpers"
PYTHON = shlex.quote(sys.executable)
GEODESIC = f"{PYTHON} -m synthfm_env.segmenters.bridge geodesic"
TEMPLATE = f"{PYTHON} {shlex.quote(str(HERE.parents[1] / 'docs' / 'reference' / 'segmenters' / 'bridge_template.py'))}"
SHAPE = (6, 24, 32)
MM = (2.0, 1.0, 1.0)
CLICKS = [Click((3, 12, 16)), Click((3, 2, 2), False), Click((1, 12, 18))]

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
posix = pytest.mark.skipif(os.name != "posix", reason="makes a named pipe")


def hostile(mood: str) -> BridgeSegmenter:
    return BridgeSegmenter(f"{PYTHON} {shlex.quote(str(HERE / 'hostile_model.py'))} {mood}")


def image(seed: int = 0) -> np.ndarray:
    picture = np.random.default_rng(seed).integers(0, 60, SHAPE, dtype=np.uint8)
    picture[1:5, 6:18, 8:24] += 120
    return picture


@pytest.fixture(scope="module")
def geodesic() -> BridgeSegmenter:
    return BridgeSegmenter(GEODESIC)


def test_a_bridged_segmenter_keeps_the_contract(geodesic: BridgeSegmenter) -> None:
    check_segmenter(geodesic)


def test_the_template_of_the_docs_keeps_the_contract_and_has_forty_lines() -> None:
    check_segmenter(BridgeSegmenter(TEMPLATE))
    lines = Path(shlex.split(TEMPLATE)[1]).read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 45


def test_masks_over_the_bridge_equal_those_in_process(geodesic: BridgeSegmenter) -> None:
    with geodesic.start(image(), MM) as bridged, make_segmenter("geodesic").start(image(), MM) as here:
        for click in CLICKS:
            assert np.array_equal(bridged.add(click).mask, here.add(click).mask)
        assert np.array_equal(bridged.undo().mask, here.undo().mask)
        other = Click((2, 20, 30), False)
        assert np.array_equal(bridged.add(other).mask, here.add(other).mask)
        together = [Click((2, 2, 2), False), Click((4, 12, 12))]
        assert np.array_equal(bridged.prompt(together).mask, here.prompt(together).mask)


@pytest.fixture
def prompted(monkeypatch: pytest.MonkeyPatch) -> BridgeSegmenter:
    """A segmenter that answers a mask prompt with the mask, and adds a ball for each click."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
    return BridgeSegmenter(f"{PYTHON} -m synthfm_env.segmenters.bridge prompted_segmenter:PromptedSegmenter")


def test_an_initial_mask_over_the_bridge_equals_that_in_process(prompted: BridgeSegmenter) -> None:
    assert prompted.capabilities.initial_mask
    first, other = np.zeros((2, *SHAPE), bool)
    first[1:4, 5:11, 7:20] = True
    other[3:, ::2, ::3] = True
    here = make_segmenter("prompted_segmenter:PromptedSegmenter").start(image(), MM)
    with prompted.start(image(), MM) as bridged:
        assert np.array_equal(bridged.prompt(mask=first).mask, here.prompt(mask=first).mask)
        corrected = here.add(CLICKS[0]).mask
        assert np.array_equal(bridged.add(CLICKS[0]).mask, corrected)
        assert not np.array_equal(corrected, first)
        # Taken back to the mask, and to nothing; another mask then takes its place.
        assert np.array_equal(bridged.undo().mask, first)
        assert np.array_equal(bridged.add(CLICKS[0]).mask, corrected)
        bridged.reset()
        assert np.array_equal(bridged.prompt(mask=other).mask, other)
        # A transposed view of a mask is written as it is shown.
        bridged.reset()
        turned = np.ascontiguousarray(first.transpose(2, 1, 0)).transpose(2, 1, 0)
        assert np.array_equal(bridged.prompt(mask=turned).mask, first)


def test_an_initial_mask_survives_the_death_of_the_process(prompted: BridgeSegmenter) -> None:
    first = np.zeros(SHAPE, bool)
    first[1:4, 5:11, 7:20] = True
    with prompted.start(image(), MM) as session:
        session.prompt(mask=first)
        running = prompted._process._running
        assert running is not None
        running.process.kill()
        running.process.wait()
        assert session.add(CLICKS[0]).mask[first].all()


def test_an_initial_mask_that_the_model_does_not_take_or_that_is_on_another_grid_is_refused(
    geodesic: BridgeSegmenter, prompted: BridgeSegmenter
) -> None:
    with geodesic.start(image(), MM) as session, pytest.raises(InputError, match="mask"):
        session.prompt(mask=np.ones(SHAPE, bool))
    with prompted.start(image(), MM) as session, pytest.raises(InputError, match="mask"):
        session.prompt(mask=np.ones((2, 3, 4), bool))


def test_encoding_is_charged_once(geodesic: BridgeSegmenter) -> None:
    with geodesic.start(image(), MM) as session:
        assert session.add(CLICKS[0]).seconds.encode > 0
        assert session.add(CLICKS[1]).seconds.encode == 0


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        ("dies", "died .exit code 9.*out of memory"),
        ("garbage", "Loading weights"),
        ("endless", "expected one line of JSON"),
        ("list", r"\[1, 2\]"),
        ("other-grid", r"shape \[1, 2, 3\]"),
        ("short-file", "wrote 5 voxels"),
        ("seven", "up to 7"),
        ("missing-file", "cannot be read"),
        ("stale", "answered the call 1"),
        pytest.param("pipe", "no regular file", marks=posix),
        ("giant-file", "has 1099511627776 bytes"),
        ("removes-folder", "cannot be read"),
        ("dies-with-child", "died .exit code 9"),
        ("fails", "CUDA out of memory"),
    ],
)
def test_a_model_that_misbehaves_costs_its_click_and_is_played_on(mood: str, message: str) -> None:
    segmenter = hostile(mood)
    with segmenter.start(image(), MM) as session:
        session.add(CLICKS[0])
        with pytest.raises(SegmenterError, match=message):
            session.add(CLICKS[1])
        assert session.clicks == (CLICKS[0],)
    with segmenter.start(image(), MM) as session:
        assert session.add(CLICKS[0]).mask.sum() == 1


@posix
@pytest.mark.parametrize("mood", ["missing-file", "removes-folder", "pipe", "short-file"])
def test_a_session_whose_files_were_damaged_is_played_on(
    mood: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONCE", str(tmp_path / "damaged"))
    with hostile(mood).start(image(), MM) as session:
        session.add(CLICKS[0])
        with pytest.raises(SegmenterError):
            session.add(CLICKS[1])
        assert session.add(CLICKS[1]).mask.sum() == 2


@linux
def test_a_helper_of_a_model_that_holds_its_output_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELPER", str(tmp_path / "ids"))
    segmenter = hostile("helper")
    helper, _ = map(int, (tmp_path / "ids").read_text().split())
    del segmenter
    assert soon(lambda: ended(helper))


@linux
def test_a_model_that_died_with_a_helper_left_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELPER", str(tmp_path / "ids"))
    segmenter = hostile("helper")
    helper, model = map(int, (tmp_path / "ids").read_text().split())
    with segmenter.start(image(), MM) as session:
        session.add(CLICKS[0])
        os.kill(model, signal.SIGKILL)
        assert soon(lambda: ended(model))
        assert session.add(CLICKS[1]).mask.sum() == 2
    assert soon(lambda: ended(helper))


@linux
def test_a_model_that_reads_nothing_is_ended_after_its_time_limit() -> None:
    segmenter = hostile("well")
    with segmenter.start(image(), MM) as session:
        session.add(CLICKS[0])
        assert segmenter.process_id is not None
        os.kill(segmenter.process_id, signal.SIGSTOP)
        segmenter._process._limit_s = 1.0
        with pytest.raises(SegmenterTimeoutError):
            session.prompt([Click((i % 6, i % 24, i % 32)) for i in range(12_000)])  # more than a pipe holds


KILLED = """
import os, signal, sys
import numpy as np
from synthfm_env.segmenters.bridge import BridgeSegmenter
segmenter = BridgeSegmenter(sys.argv[1])
session = segmenter.start(np.zeros((2, 8, 8), np.uint8), (1, 1, 1))
print(segmenter.process_id, os.path.dirname(session._files.image["path"]), flush=True)
os.kill(segmenter.process_id, signal.SIGSTOP)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@linux
@pytest.mark.parametrize("way", ["killed", "unclosed"])
def test_a_process_that_is_killed_or_forgets_to_close_leaves_no_model_and_no_files(way: str) -> None:
    command = f"{PYTHON} {shlex.quote(str(HERE / 'hostile_model.py'))} well"
    script = [sys.executable, "-c", KILLED, command, way]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
    model, folder = done.stdout.split()
    assert soon(lambda: ended(int(model))), done.stderr
    assert soon(lambda: not Path(folder).exists())


def test_whole_numbers_of_numpy_are_whole_numbers(geodesic: BridgeSegmenter) -> None:
    with geodesic.start(image(), MM) as session:
        plain = session.add(CLICKS[0]).mask
        session.reset()
        indices: Any = tuple(np.array(CLICKS[0].zyx))
        assert np.array_equal(session.add(Click(indices)).mask, plain)
    corners: Any = (tuple(np.array([1, 2, 3])), tuple(np.array([4, 5, 6], np.uint8)))
    encode(prompt_message(Prompt((), Box(*corners)), None))


def test_an_error_that_is_null_is_none_and_texts_of_a_model_are_short_and_printable() -> None:
    with hostile("null-error").start(image(), MM) as session:
        session.add(CLICKS[0])
        assert session.add(CLICKS[1]).mask.sum() == 2
    segmenter = hostile("loud")
    assert len(segmenter.name) < 200
    with segmenter.start(image(), MM) as session:
        session.add(CLICKS[0])
        with pytest.raises(SegmenterError) as failed:
            session.add(CLICKS[1])
    for text in (segmenter.name, str(failed.value)):
        assert text.isprintable()
        assert len(text) < 1000


def test_a_model_that_hangs_is_ended_after_its_time_limit() -> None:
    segmenter = hostile("hangs")
    with segmenter.start(image(), MM) as session:
        session.add(CLICKS[0])
        segmenter._process._limit_s = 1.0  # no answer comes, so that the load of the machine decides nothing
        with pytest.raises(SegmenterTimeoutError, match=r"no answer to 'prompt' within 1 s"):
            session.add(CLICKS[1])
        assert session.clicks == (CLICKS[0],)


def test_a_process_that_died_once_is_started_again_with_all_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONCE", str(tmp_path / "died"))
    segmenter = hostile("dies")
    with segmenter.start(image(), MM) as session, segmenter.start(image(), MM) as beside:
        session.add(CLICKS[0])
        beside.add(CLICKS[0])
        with pytest.raises(SegmenterError):
            session.add(CLICKS[1])
        assert session.add(CLICKS[1]).mask.sum() == 2
        assert beside.add(CLICKS[1]).mask.sum() == 2


def test_a_refused_prompt_is_the_users_error_and_seconds_that_make_no_sense_do_not_count() -> None:
    with hostile("refuses").start(image(), MM) as session:
        session.add(CLICKS[0])
        with pytest.raises(InputError, match="only one click, please"):
            session.add(CLICKS[1])
    with hostile("strange-seconds").start(image(), MM) as session:
        session.add(CLICKS[0])
        assert session.add(CLICKS[1]).seconds.encode == 0
    with hostile("endless-seconds").start(image(), MM) as session:
        session.add(CLICKS[0])
        assert session.add(CLICKS[1]).seconds.encode == 300


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "the command is missing"),
        ("'unbalanced", "cannot be split"),
        ("/no/such/program", "cannot be started: No such file"),
        ("/no such/program", "'/no'; .*quotes around a path with spaces"),
        ("cat", "repeated the call"),
        (f"{PYTHON} {HERE / 'hostile_model.py'} dies-at-hello", "died .exit code 1.; .*no such weights"),
        (f"{PYTHON} {HERE / 'hostile_model.py'} garbage-at-hello", "Welcome!"),
        (f"{PYTHON} {HERE / 'hostile_model.py'} other-version", "speaks version 99"),
        (f"{PYTHON} {HERE / 'hostile_model.py'} other-abilities", "telepathy"),
        (f"{PYTHON} -m synthfm_env.segmenters.bridge geodesick", "did you mean geodesic"),
        (f"{PYTHON} -m synthfm_env.segmenters.bridge", "usage:"),
    ],
)
def test_a_command_that_serves_no_model_is_refused_at_once(command: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BridgeSegmenter(command)


def test_a_closed_session_leaves_no_files_behind(geodesic: BridgeSegmenter) -> None:
    session = geodesic.start(image(), MM)
    folder = Path(session._files.image["path"]).parent  # type: ignore[attr-defined]
    assert folder.is_dir()
    session.close()
    assert not folder.exists()
