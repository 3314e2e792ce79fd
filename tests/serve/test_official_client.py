"""Tests ``synthfm serve`` with nnInteractive's own client, as 3D Slicer and napari use it."""

import sys
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("nnInteractive.inference.remote", reason="nninteractive-client is not installed (extra serve)")
from httpx import HTTPStatusError
from nnInteractive.inference.remote.remote_session import (
    ServerAtCapacityError,
    SessionExpiredError,
    nnInteractiveRemoteInferenceSession,
)
from running import Corner, Spacing, serving

from synthfm_bench import cli
from synthfm_bench.serve.app import Limits, make_app
from synthfm_env import Click, make_segmenter
from synthfm_env.volumes import to_uint8

# A client that was refused leaves its socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SHAPE = (12, 16, 20)


@pytest.fixture(scope="module")
def ball():
    grid = np.ogrid[tuple(slice(n) for n in SHAPE)]
    inside = sum((axis - n / 2) ** 2 for axis, n in zip(grid, SHAPE, strict=True)) < 16
    return inside, np.where(inside, 200, 20).astype(np.int16)


@pytest.fixture(scope="module")
def address():
    with serving(make_app(make_segmenter("geodesic"), limits=Limits(sessions=8, mib=8))) as url:
        yield url


@pytest.fixture(scope="module")
def corner():
    with serving(make_app(Corner(), limits=Limits(sessions=8, mib=8))) as url:
        yield url


def expected(image, *clicks, spacing=(1.0, 1.0, 1.0)):
    """Answer as the segmenter itself does."""
    scaled = to_uint8(image.astype(np.float32), "other")
    with make_segmenter("geodesic").start(scaled, spacing) as session:
        return session.prompt([Click(zyx, positive) for zyx, positive in clicks]).mask.astype(np.uint8)


def connect(url, image=None, spacing=(1.0, 1.0, 1.0), **properties):
    client = nnInteractiveRemoteInferenceSession(url)
    if image is not None:
        client.set_image(image[None], {"spacing": np.array(spacing), **properties})
        client.set_target_buffer(np.zeros(image.shape, dtype=np.uint8))
    return client


def test_a_session_segments_corrects_undoes_and_starts_again(address, ball):
    _, image = ball
    with connect(address, image) as client:
        changed = client.add_point_interaction((6, 8, 10), True)
        first = client.target_buffer.copy()
        assert np.array_equal(first, expected(image, ((6, 8, 10), True)))
        assert first[tuple(slice(*side) for side in changed)].sum() == first.sum()
        client.add_point_interaction((6, 8, 13), False)
        assert client.target_buffer[6, 8, 13] == 0
        assert client.undo()
        assert np.array_equal(client.target_buffer, first)
        assert client.undo()
        assert not client.target_buffer.any()
        assert not client.undo()
        client.add_point_interaction((6, 8, 10), True)
        client.reset_interactions()
        client.add_point_interaction((6, 8, 10), True)
        assert np.array_equal(client.target_buffer, first)


def test_prompts_wait_until_a_prediction_is_asked_for(address, ball):
    _, image = ball
    with connect(address, image) as client:
        assert client.add_point_interaction((6, 8, 10), True, run_prediction=False) is None
        assert client.add_point_interaction((0, 0, 0), False, run_prediction=False) is None
        assert not client.target_buffer.any()
        assert client._predict() is not None
        assert np.array_equal(client.target_buffer, expected(image, ((6, 8, 10), True), ((0, 0, 0), False)))
        assert client._predict() is None
        assert client.undo()
        assert not client.target_buffer.any()


def test_what_the_segmenter_does_not_take_is_said_and_refused(address, ball):
    _, image = ball
    with connect(address, image) as client:
        assert client.supported_interactions == {
            "points": True,
            "bbox2d": False,
            "bbox3d": False,
            "scribble": False,
            "lasso": False,
        }
        assert not client.supports_initial_label
        mask = np.ones(SHAPE, dtype=np.uint8)
        for refused in (
            lambda: client.add_scribble_interaction(mask, True),
            lambda: client.add_lasso_interaction(mask, True),
            lambda: client.add_bbox_interaction([[0, 1], [0, 4], [0, 4]], True),
            lambda: client.add_initial_seg_interaction(mask),
        ):
            with pytest.raises(HTTPStatusError) as answer:
                refused()
            assert answer.value.response.status_code == 400
            assert "takes no" in answer.value.response.json()["detail"]


def test_boxes_and_initial_masks_reach_a_segmenter_that_takes_them(corner):
    image = np.zeros(SHAPE, dtype=np.float32)
    with connect(corner, image) as client:
        assert client.supported_interactions["bbox2d"]
        assert client.supported_interactions["bbox3d"]
        assert client.supports_initial_label
        client.add_bbox_interaction([[2, 3], [4, 99], [-5, 3]], True)
        expected = np.zeros(SHAPE, dtype=np.uint8)
        expected[2:3, 4:16, 0:3] = 1
        assert np.array_equal(client.target_buffer, expected)
        seed = np.zeros(SHAPE, dtype=np.uint8)
        seed[1:3, 1:3, 1:3] = 1
        client.add_initial_seg_interaction(seed, run_prediction=True)
        assert np.array_equal(client.target_buffer, seed)
        client.add_point_interaction((11, 15, 19), True)
        assert client.target_buffer[11, 15, 19] == 1
        assert client.target_buffer.sum() == seed.sum() + 1
        with pytest.raises(HTTPStatusError, match="400"):
            client.add_bbox_interaction([[2, 3], [4, 9], [0, 3]], False)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"],
)
@pytest.mark.parametrize("layout", ["C", "F", "reversed", "big-endian"])
def test_arrays_of_every_dtype_and_memory_order_are_read(address, ball, dtype, layout):
    inside, _ = ball
    image = np.where(inside, 100, 20).astype(dtype) if dtype != "bool" else inside
    if layout == "F":
        image = np.asfortranarray(image)
    if layout == "reversed":
        image = np.ascontiguousarray(image[::-1, :, ::-1])[::-1, :, ::-1]
    if layout == "big-endian":
        image = image.astype(image.dtype.newbyteorder(">"))
    with connect(address, image) as client:
        client.add_point_interaction((6, 8, 10), True)
        assert np.array_equal(client.target_buffer, expected(image, ((6, 8, 10), True)))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64"])
def test_the_mask_comes_in_the_buffers_own_dtype(corner, dtype):
    with connect(corner, np.zeros(SHAPE, dtype=np.float32)) as client:
        client.set_target_buffer(np.zeros(SHAPE, dtype=dtype))
        client.add_point_interaction((6, 8, 10), True)
        assert client.target_buffer.sum() == 6 * 8 * 10


def test_spacing_stays_with_its_axis(ball):
    with serving(make_app(Spacing())) as url, connect(url, np.zeros((30, 30, 30), np.int16), (10, 5, 2)) as client:
        assert client.add_point_interaction((15, 15, 15), True) == [[14, 17], [13, 18], [10, 21]]
        with pytest.raises(HTTPStatusError, match="400"):
            client.add_point_interaction((15, 15, 15), False)


def test_a_2d_image_with_two_lengths_is_one_slice(ball):
    with serving(make_app(Spacing())) as url, connect(url, np.zeros((1, 30, 30), np.uint8), (5, 2)) as client:
        assert client.add_point_interaction((0, 15, 15), True) == [[0, 1], [13, 18], [10, 21]]


def test_clients_at_the_same_time_see_their_own_image_alone(corner):
    def work(number):
        shape = (number + 4, 10, 12)
        with connect(corner, np.full(shape, number, dtype=np.int16)) as client:
            sums = []
            for step in range(6):
                client.add_point_interaction((number % shape[0], step, 2), True)
                sums.append(int(client.target_buffer.sum()))
                client.reset_interactions()
            return shape, sums

    with ThreadPoolExecutor(8) as pool:
        for number, (shape, sums) in enumerate(pool.map(work, range(8))):
            assert sums == [(shape[0] - number) * (10 - step) * 10 for step in range(6)]


def test_a_full_server_says_so_and_a_closed_client_makes_room():
    with serving(make_app(Corner(), limits=Limits(sessions=1))) as url:
        with connect(url), pytest.raises(ServerAtCapacityError, match="taken"):
            connect(url)
        with connect(url) as client:
            assert client.ping()


def test_a_lease_that_the_server_dropped_is_gone_for_the_client(corner):
    app = make_app(Corner())
    with serving(app) as url, connect(url, np.zeros(SHAPE, np.uint8)) as client:
        app.state.leases.close()
        with pytest.raises(SessionExpiredError):
            client.add_point_interaction((0, 0, 0), True)


def test_a_token_is_asked_for():
    with serving(make_app(Corner(), token="long enough")) as url:
        with pytest.raises(HTTPStatusError, match="401"):
            nnInteractiveRemoteInferenceSession(url)
        with pytest.raises(HTTPStatusError, match="401"):
            nnInteractiveRemoteInferenceSession(url, api_key="another one")
        with nnInteractiveRemoteInferenceSession(url, api_key="long enough") as client:
            assert client.ping()


def test_too_large_an_image_is_refused_before_it_is_unpacked(address):
    with connect(address) as client:
        with pytest.raises(HTTPStatusError, match="413") as answer:
            client.set_image(np.zeros((1, 2048, 2048, 4), dtype=np.uint8))
        assert "16" not in answer.value.response.json()["detail"].split("limit is")[1]
        with pytest.raises(HTTPStatusError, match="413"):
            client.set_target_buffer(np.zeros((2048, 2048, 4), dtype=np.uint8))


# The same mask as `synthfm segment`


def rotated_affine(codes: str) -> np.ndarray:
    """An oblique affine, (4, 2, 1) mm along its first, second and third stored axes, nearest to the given codes."""
    turned = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), (1, 1, 1))
    angle = 0.35
    tilt = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ turned[:3, :3] @ np.diag((4.0, 2.0, 1.0))
    affine[:3, 3] = (-31, 17, 5)
    return affine


@pytest.fixture
def scan(tmp_path, monkeypatch):
    """A rotated, anisotropic scan with one bright organ, in three orientations."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    image = rng.normal(-900, 5, (14, 18, 22)).round().astype(np.int16)
    image[3:9, 5:15, 4:17] = 60
    image[9:12, 5:9, 4:8] = 60
    return image


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PIR", "SAL"])
@pytest.mark.parametrize("viewer", ["slicer", "napari"])
def test_a_click_gives_the_same_mask_as_the_command(scan, monkeypatch, codes, viewer):
    affine = rotated_affine(codes)
    nib.save(nib.Nifti1Image(scan, affine), "scan.nii.gz")
    stored = (5, 8, 12)  # i, j, k
    segment = ["synthfm", "segment", "scan.nii.gz", "-o", "mask.nii.gz", "--segmenter"]
    click = ["--click", ",".join(map(str, stored[::-1])) + ",+"]
    swap = np.eye(4)[[2, 1, 0, 3]]
    for segmenter, name in ((Corner(), "running:Corner"), (make_segmenter("geodesic"), "geodesic")):
        monkeypatch.setattr(sys, "argv", [*segment, name, *click])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        expected = np.asarray(nib.load("mask.nii.gz").dataobj)
        # Slicer holds (k, j, i), a napari reader on nibabel (i, j, k).
        array = scan.T if viewer == "slicer" else scan
        place = stored[::-1] if viewer == "slicer" else stored
        to_ras = affine @ swap if viewer == "slicer" else affine
        spacing = np.linalg.norm(to_ras[:3, :3], axis=0)
        with serving(make_app(segmenter)) as url:
            with connect(url, array, spacing, affine=to_ras) as client:
                client.add_point_interaction(place, True)
                answer = client.target_buffer.T if viewer == "slicer" else client.target_buffer
                assert np.array_equal(answer, expected), name
            if name == "geodesic":  # which is the same in every direction, so that it needs no affine
                with connect(url, array, spacing) as client:
                    client.add_point_interaction(place, True)
                    answer = client.target_buffer.T if viewer == "slicer" else client.target_buffer
                    assert np.array_equal(answer, expected)
