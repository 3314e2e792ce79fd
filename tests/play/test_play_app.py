"""Tests the answers of the page's server, also to invalid requests."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
from games import SHAPE, made_game, made_suite
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from synthfm_bench.play.app import make_app
from synthfm_bench.play.game import FreeGame
from synthfm_env import make_segmenter
from synthfm_env.errors import InputError
from synthfm_env.volumes import load_volume

THOUGHT = {"thought_s": 1.0, "pause_s": 0.0}
CLICK = {"zyx": [5, 10, 10], "positive": True, **THOUGHT}
POSTS = ["open", "click", "undo", "finish", "end"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    return folder


def client_of(game, page, **options):
    return TestClient(make_app(game, page=page, **options), base_url="http://127.0.0.1")


@pytest.fixture
def client(tmp_path, page):
    with client_of(made_game(tmp_path), page) as client:
        yield client


def test_a_game_goes_over_the_wire(client):
    study = client.get("/api/study").json()
    assert study["who"] == "human:anna"
    assert [task["done"] for task in study["tasks"]] == [False, False]
    assert client.post("/api/open", json={"task": 0}).json()["shape"] == list(SHAPE)
    image = nib.Nifti1Image.from_bytes(client.get("/api/image").content)
    assert image.shape == SHAPE[::-1]
    assert image.header.get_zooms() == pytest.approx((1.5, 1.0, 3.0))
    answer = client.post("/api/click", json=CLICK)
    facts = json.loads(answer.headers["X-Meta"])
    box = tuple(slice(*span) for span in facts["spans"])
    shown = np.zeros(SHAPE, dtype=np.uint8)
    shown[box] = np.frombuffer(answer.content, np.uint8).reshape(shown[box].shape)
    assert shown[5, 10, 10] == 1
    assert shown.sum() == facts["voxels"]
    assert json.loads(client.post("/api/undo", json=THOUGHT).headers["X-Meta"])["voxels"] == 0
    assert json.loads(client.post("/api/finish", json=THOUGHT).headers["X-Meta"])["ended"]
    assert "ritm-3d-v1" in client.get("/api/curves").json()
    assert client.get("/api/target").content.count(1) == 600
    assert client.post("/api/end").json()["left"] == 1


def test_the_saved_mask_is_on_the_grid_of_the_file(client, tmp_path):
    client.post("/api/open", json={"task": 0})
    client.post("/api/click", json=CLICK)
    answer = client.get("/api/mask")
    assert answer.headers["content-disposition"] == 'attachment; filename="scan_1.nii.gz"'
    saved = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    scan = nib.load(tmp_path / "scan.nii.gz")
    assert np.array_equal(saved.affine, scan.affine)
    # Stored LPS: the voxel clicked at (5, 10, 10) of the volume has these stored indices.
    assert np.asarray(saved.dataobj)[SHAPE[2] - 1 - 10, SHAPE[1] - 1 - 10, 5] == 1
    assert client.get("/api/mask?format=dicom").status_code == 400


def test_requests_before_a_structure_is_open_are_refused(client):
    for path in ("image", "target", "curves", "mask"):
        assert client.get(f"/api/{path}").status_code == 400
    for path in ("click", "undo", "finish", "end"):
        assert client.post(f"/api/{path}", json=CLICK).status_code == 400


@pytest.mark.parametrize("path", POSTS)
def test_any_json_is_answered(client, path):
    client.post("/api/open", json={"task": 0})
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    keys = st.sampled_from(["task", "zyx", "positive", "thought_s", "pause_s"])

    @settings(max_examples=40)
    @given(message=st.dictionaries(keys, plain | st.lists(plain, max_size=4)) | plain)
    def check(message):
        answer = client.post(f"/api/{path}", content=json.dumps(message))
        assert answer.status_code in (200, 400), answer.text

    check()


@pytest.mark.parametrize("seconds", [-1, "1", None, True, 1e9, float("nan"), float("inf")])
def test_times_that_are_none_are_refused(client, seconds):
    client.post("/api/open", json={"task": 0})
    message = json.dumps(CLICK | {"thought_s": seconds})
    assert client.post("/api/click", content=message).status_code == 400


def test_files_outside_the_page_are_not_served(client):
    for path in ("/../game.py", "/%2e%2e/game.py", "/..%2fapp.py", "/nothing.js"):
        assert client.get(path).status_code == 404
    assert client.get("/").text.startswith("<!doctype html>")


def test_every_answer_forbids_requests_to_elsewhere(client):
    for path in ("/", "/api/study", "/api/mask", "/nothing"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy


def test_other_sites_and_clients_without_the_token_are_refused(tmp_path, page):
    with client_of(made_game(tmp_path), page) as client:
        assert client.post("/api/end", headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.get("/api/study", headers={"Host": "evil.example"}).status_code == 403
    with client_of(made_game(tmp_path), page, token="a long secret") as client:
        assert client.get("/api/study").status_code == 401
        assert client.get("/").status_code == 200
        assert client.get("/api/study", headers={"Authorization": "Bearer a long secret"}).status_code == 200


def test_a_page_that_was_not_built_is_said_so(tmp_path):
    with pytest.raises(InputError, match="make play"):
        make_app(made_game(tmp_path), page=tmp_path)


def test_an_image_of_ones_own_can_be_saved_without_a_label(tmp_path, page):
    made_suite(tmp_path)
    game = FreeGame(load_volume(tmp_path / "scan.nii.gz"), make_segmenter("geodesic"))
    with client_of(game, page) as client:
        assert not client.get("/api/study").json()["records"]
        client.post("/api/open", json={"task": 0})
        client.post("/api/click", json=CLICK)
        assert client.get("/api/mask").headers["content-disposition"].endswith('filename="scan_structure.nii.gz"')
        assert client.get("/api/curves").status_code == 400
