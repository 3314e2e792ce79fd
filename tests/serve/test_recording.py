"""Tests the recording of clicks in a viewer: recognised in any axis order, merged and replayed."""

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("nnInteractive.inference.remote", reason="nninteractive-client is not installed (extra serve)")
from games import made_suite
from nnInteractive.inference.remote.remote_session import nnInteractiveRemoteInferenceSession
from rich.console import Console
from running import serving

from synthfm_bench.execution.verify import verify
from synthfm_bench.play.person_run import PersonRun, suite_of_person
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.serve.app import make_app
from synthfm_bench.serve.recording import Recorder
from synthfm_env import make_segmenter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


@pytest.fixture
def recorded(tmp_path):
    suite = suite_of_person(made_suite(tmp_path), "anna", segmenter="geodesic", practice=False)
    run = PersonRun.open(suite, tmp_path / "anna")
    segmenter = make_segmenter("geodesic")
    recorder = Recorder(run, segmenter, Clock())
    with serving(make_app(segmenter, recognise=recorder.recognise)) as url:
        yield url, tmp_path


def viewed(folder, as_slicer):
    """Return the stored array as a viewer holds it, and how it turns a voxel (z, y, x) of the volume to its own."""
    array = np.asarray(nib.load(folder / "scan.nii.gz").dataobj)
    width, height, _ = array.shape

    def place(z, y, x):  # the file is stored LPS, the volume RAS
        stored = (width - 1 - x, height - 1 - y, z)
        return stored[::-1] if as_slicer else stored

    return (array.T if as_slicer else array), place


@pytest.mark.parametrize("as_slicer", [True, False])
def test_a_session_in_a_viewer_is_a_persons_run(recorded, as_slicer):
    url, folder = recorded
    array, place = viewed(folder, as_slicer)
    with nnInteractiveRemoteInferenceSession(url) as client:
        client.set_image(array[None], {"spacing": [1.0, 1.0, 1.0]})
        client.set_target_buffer(np.zeros(array.shape, np.uint8))
        client.add_point_interaction(place(5, 10, 10), True)
        assert client.target_buffer[place(5, 10, 10)] == 1
        client.add_point_interaction(place(5, 2, 2), False)
        assert client.undo()
        client.reset_interactions()  # the next structure
        client.add_point_interaction(place(5, 17, 24), True)
        client.reset_interactions()
        client.add_point_interaction(place(0, 0, 0), True)  # the background: answered, not recorded
        assert client.target_buffer[place(0, 0, 0)] == 1
    first, second = read_run(folder / "anna").episodes
    assert [step.point_zyx for step in first.steps] == [(5, 10, 10), (5, 2, 2), None, None]
    assert [step.undone for step in first.steps] == [False, False, True, False]
    assert first.dice[0] > 0.5
    assert first.steps[0].t_click_s > 0
    assert second.structure == "2"
    assert verify(folder / "anna", episodes=None, workers=1, console=Console(quiet=True), trusted=True).equal


def test_clicks_beyond_the_budget_are_answered_and_not_recorded(recorded):
    url, folder = recorded
    array, place = viewed(folder, True)
    with nnInteractiveRemoteInferenceSession(url) as client:
        client.set_image(array[None], {})
        client.set_target_buffer(np.zeros(array.shape, np.uint8))
        for x in (10, 11, 12, 13, 14):
            client.add_point_interaction(place(5, 10, x), True)
        client.add_point_interaction(place(5, 2, 2), True)
        assert client.target_buffer[place(5, 2, 2)] == 1
        assert client.undo()
        assert client.target_buffer[place(5, 2, 2)] == 0
    (episode,) = read_run(folder / "anna").episodes
    assert len(episode.steps) == 4
    assert episode.outcome == "max_clicks"


def test_another_image_is_answered_and_not_recorded(recorded):
    url, folder = recorded
    array, place = viewed(folder, True)
    changed = array.copy()
    changed[3, 3, 3] += 1
    with nnInteractiveRemoteInferenceSession(url) as client:
        client.set_image(changed[None], {})
        client.set_target_buffer(np.zeros(array.shape, np.uint8))
        client.add_point_interaction(place(5, 10, 10), True)
        assert client.target_buffer.any()
    assert not (folder / "anna" / "steps.jsonl").exists()
