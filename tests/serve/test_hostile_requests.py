"""Tests invalid requests: none gives a server error, and none takes memory beyond the limit."""

import json
import struct
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("nnInteractive.inference.remote", reason="the extra serve is not installed")
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Corner
from starlette.testclient import TestClient

from synthfm_bench.serve.app import Limits, make_app
from synthfm_bench.serve.exchange import TooLargeError
from synthfm_bench.serve.guard import is_loopback
from synthfm_bench.serve.listen import check_token
from synthfm_bench.serve.wire import read_array, write_array
from synthfm_env.errors import InputError

SHAPE = (4, 5, 6)
POSTS = [
    "/claim",
    "/release",
    "/heartbeat",
    "/set_image",
    "/set_target_buffer",
    "/set_do_autozoom",
    "/reset_interactions",
    "/undo",
    "/predict",
    "/add_point_interaction",
    "/add_bbox_interaction",
    "/add_initial_seg_interaction",
    "/add_scribble_interaction",
    "/add_lasso_interaction",
]
KEYS = ["shape", "dtype", "coordinates", "bbox_coords", "include_interaction", "run_prediction", "do_autozoom"]
META_KEYS = ["image_properties", "include_interaction", "run_prediction", "spacing", "affine", "windowed"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["uint8", "float32"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(META_KEYS), inner),
    max_leaves=9,
)
plausible = st.lists(st.integers(-1, 9) | st.floats(-1, 9), min_size=3, max_size=3) | st.lists(
    st.lists(st.integers(-1, 9), min_size=2, max_size=2), min_size=3, max_size=3
)


def client_of(app):
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def server():
    with client_of(make_app(Corner(), limits=Limits(sessions=3, mib=1))) as client:
        yield client


@pytest.fixture
def lease(server):
    token = server.post("/claim").json()["lease_token"]
    server.headers["X-Lease-Token"] = token
    image = write_array(np.zeros((1, *SHAPE), np.uint8))
    assert server.post("/set_image", content=image).status_code == 200
    assert server.post("/set_target_buffer", json={"shape": SHAPE, "dtype": "uint8"}).status_code == 200
    yield token
    server.post("/release")
    del server.headers["X-Lease-Token"]


def assert_answered(answer):
    assert answer.status_code in (200, 400, 410, 413, 503), answer.text
    if answer.status_code != 200:
        assert answer.json()["detail"]


@pytest.mark.parametrize("path", POSTS)
def test_any_json_is_answered(server, path):
    @settings(max_examples=40)
    @given(message=st.dictionaries(st.sampled_from(KEYS), values | plausible) | values, meta=values | plausible)
    def check(message, meta):
        token = server.post("/claim").json().get("lease_token", "")
        headers = {"X-Lease-Token": token, "X-Meta": json.dumps(meta)}
        server.post(
            "/set_image", content=write_array(np.zeros((1, *SHAPE), np.uint8)), headers=headers | {"X-Meta": ""}
        )
        answer = server.post(path, content=json.dumps(message), headers=headers)
        assert_answered(answer)
        server.post("/release", headers=headers)
        if path == "/claim" and answer.status_code == 200:
            server.post("/release", headers={"X-Lease-Token": answer.json()["lease_token"]})

    check()


@pytest.mark.parametrize("path", POSTS)
def test_any_bytes_are_answered(server, lease, path):
    @settings(max_examples=40)
    @given(body=st.binary(max_size=80), meta=st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b" ")))
    def check(body, meta):
        meta = meta.replace(b"\r", b"").replace(b"\n", b"")
        if path != "/release" and path != "/claim":
            assert_answered(server.post(path, content=body, headers={"X-Meta": meta}))

    check()


@pytest.mark.parametrize("path", ["/set_image", "/add_initial_seg_interaction"])
def test_a_changed_array_is_answered(server, lease, path):
    whole = write_array(np.arange(120, dtype=np.uint8).reshape(1, *SHAPE) if path == "/set_image" else np.ones(SHAPE))

    @given(at=st.integers(0, len(whole) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(whole)))
    def check(at, byte, cut):
        changed = bytearray(whole)
        changed[at] = byte
        for body in (bytes(changed), whole[:cut], whole + whole[:cut]):
            assert_answered(server.post(path, content=body))

    check()


def packed(shape, dtype=b"uint8", codec=1, axes=None, chunks=b"\0\0\0\0"):
    head = struct.pack(f"<4sBBBB{len(dtype)}s", b"NNIA", 1, codec, axes or len(shape), len(dtype), dtype)
    return head + struct.pack(f"<{len(shape)}q", *shape) + chunks


@pytest.mark.parametrize(
    ("body", "status"),
    {
        "claims 4 GiB": (packed((1, 1024, 1024, 4096)), 413),
        "claims more than an int64 holds": (packed((1 << 40, 1 << 40, 1 << 40)), 413),
        "a negative length": (packed((1, -4, 5, 6)), 400),
        "no voxels": (packed((1, 0, 5, 6)), 400),
        "Python objects": (packed((1, 4, 5, 6), b"object"), 400),
        "complex voxels": (packed((1, 4, 5, 6), b"complex64"), 400),
        "a structured dtype": (packed((1, 4, 5, 6), b"V100000"), 400),
        "more axes than NumPy has": (packed((1,) * 200), 400),
        "an unknown codec": (packed((1, 4, 5, 6), codec=7), 400),
        "no chunks": (packed((1, 4, 5, 6)), 400),
        "millions of chunks": (packed((1, 4, 5, 6), chunks=b"\xff\xff\xff\x7f"), 400),
        "a chunk larger than the body": (
            packed((1, 4, 5, 6), chunks=struct.pack("<IQQ", 1, 120, 1 << 60) + b"x" * 40),
            400,
        ),
    }.values(),
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(server, lease, body, status):
    tracemalloc.start()
    answer = server.post("/set_image", content=body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status_code == status, answer.text
    assert most < 8 << 20


def test_a_body_without_end_is_cut_off(server, lease):
    def endless():
        sent = 0
        while sent < 64 << 20:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    assert server.post("/set_image", content=endless()).status_code == 413
    assert server.post("/add_point_interaction", content=b" " * (1 << 17)).status_code == 413


def test_a_failed_request_leaves_the_session_as_it_was(server, lease):
    point = {"coordinates": [1, 1, 1], "include_interaction": True}
    assert server.post("/add_point_interaction", json=point).status_code == 200
    for bad in ([4, 0, 0], [0, -1, 0], [0, 0, float("1e400")], [0, 0], "0,0,0", None):
        text = json.dumps({"coordinates": bad, "include_interaction": True})
        assert server.post("/add_point_interaction", content=text).status_code == 400
    assert server.post("/set_image", content=b"NNIA").status_code == 400
    undone = json.loads(server.post("/undo").headers["X-Meta"])
    assert undone == {"ran_prediction": True, "bbox": [[1, 4], [1, 5], [1, 6]], "dtype": "uint8", "shape": [3, 4, 5]}


def test_an_image_of_nan_is_refused(server, lease):
    answer = server.post("/set_image", content=write_array(np.full((1, *SHAPE), np.nan)))
    assert answer.status_code == 400
    assert "NaN" in answer.json()["detail"]


def test_two_leases_are_two_sessions(server, lease):
    other = {"X-Lease-Token": server.post("/claim").json()["lease_token"]}
    assert server.post("/undo", headers=other).json()["detail"].startswith("no image was set")
    point = {"coordinates": [0, 0, 0], "include_interaction": True}
    assert server.post("/add_point_interaction", json=point, headers=other).status_code == 400
    assert server.post("/release", headers=other).status_code == 200
    assert server.post("/heartbeat", headers=other).status_code == 410
    assert server.post("/heartbeat").status_code == 200


# Who may connect


def test_pages_of_other_sites_are_refused():
    with client_of(make_app(Corner())) as client:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Host": "evil.example"},
            {"Host": "["},
        ):
            assert client.post("/claim", headers=headers).status_code == 403
        assert client.post("/claim", headers={"Origin": "http://127.0.0.1"}).status_code == 200
        answer = client.options(
            "/claim", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        )
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_token_is_needed_for_all_but_the_health_check():
    with client_of(make_app(Corner(), token="a long secret")) as client:
        assert client.get("/healthz").status_code == 200
        for path in POSTS:
            assert client.post(path).status_code == 401
            assert client.post(path, headers={"Authorization": "Bearer \xff".encode("latin-1")}).status_code == 401
        assert client.get("/capabilities", headers={"Authorization": "Bearer a long secret"}).status_code == 200


def test_another_address_than_loopback_needs_a_token():
    check_token("127.0.0.1", None)
    check_token("::1", None)
    check_token("0.0.0.0", "a long secret")
    for host in ("0.0.0.0", "192.168.1.4", "::", "example.org"):
        with pytest.raises(InputError, match="token"):
            check_token(host, None)
    with pytest.raises(InputError, match="at least 8"):
        check_token("127.0.0.1", "short")


def test_names_of_this_machine_are_told_from_others():
    assert all(map(is_loopback, ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "localhost.evil.example", "10.0.0.1", "127.0.0.1.nip.io"]))


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    dtype=st.sampled_from(["bool", "int8", "uint16", "int64", "float16", "float64"]),
)
def test_arrays_come_back_as_they_were(shape, dtype):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    again = read_array(write_array(array), limit_mib=1)
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


def test_the_limit_counts_four_bytes_a_voxel():
    packed_bytes = write_array(np.zeros((65, 64, 64), dtype=np.uint8))
    assert read_array(packed_bytes, limit_mib=2).size == 65 * 64 * 64
    with pytest.raises(TooLargeError, match="2 MiB, this server's limit is 1 MiB"):
        read_array(packed_bytes, limit_mib=1)
