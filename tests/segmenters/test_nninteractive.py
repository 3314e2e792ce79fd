"""Tests the official client against a server in the test: equal masks, and all kinds of failures."""

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("nnInteractive.inference.remote", reason="needs the extra 'nninteractive'")

import httpx
from fake_nninteractive import FakeServer

from synthfm_env.errors import InputError, SegmenterError, SegmenterTimeoutError
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.geodesic import Geodesic
from synthfm_env.segmenters.nninteractive import NnInteractive
from synthfm_env.testing import check_segmenter

SHAPE = (6, 24, 32)
MM = (2.0, 1.0, 1.5)
CLICKS = [Click((3, 12, 16)), Click((3, 2, 2), False), Click((1, 12, 18))]


def image() -> np.ndarray:
    picture = np.random.default_rng(0).integers(0, 60, SHAPE, dtype=np.uint8)
    picture[1:5, 6:18, 8:24] += 120
    return picture


@pytest.fixture
def server() -> Iterator[FakeServer]:
    served = FakeServer(Geodesic())
    yield served
    served.close()


def connect(server: FakeServer, limit: float = 20.0) -> NnInteractive:
    return NnInteractive(server.url, limit)


def test_the_contract_is_kept_over_the_wire(server: FakeServer) -> None:
    # The geodesic segmenter behind this server takes clicks alone.
    server.most = 3
    server.capabilities = server.capabilities | {
        "supported_interactions": {"points": True},
        "supports_initial_label": False,
    }
    check_segmenter(connect(server))


def test_masks_over_the_wire_equal_those_in_process(server: FakeServer) -> None:
    segmenter = make_segmenter(f"nninteractive:{server.url}")
    with segmenter.start(image(), MM) as session, Geodesic().start(image(), MM) as here:
        for click in CLICKS:
            assert np.array_equal(session.add(click).mask, here.add(click).mask)
        # The server takes back one interaction; the second undo has to give all of them again.
        for _ in range(2):
            assert np.array_equal(session.undo().mask, here.undo().mask)
        other = [Click((2, 20, 30), False), Click((4, 12, 12))]
        assert np.array_equal(session.prompt(other).mask, here.prompt(other).mask)
        session.reset()
        here.reset()
        assert np.array_equal(session.add(CLICKS[2]).mask, here.add(CLICKS[2]).mask)


def test_a_lease_is_kept_for_the_next_session_and_claimed_again_when_it_ran_out(server: FakeServer) -> None:
    segmenter = connect(server)
    for _ in range(3):
        with segmenter.start(image(), MM) as session:
            session.add(CLICKS[0])
    assert server.calls.count("/claim") == 1
    server.leases.clear()
    with segmenter.start(image(), MM) as session:
        session.add(CLICKS[0])
    assert server.calls.count("/claim") == 2


def test_a_lease_that_is_gone_in_mid_session_is_an_error_and_the_next_session_works(server: FakeServer) -> None:
    segmenter = connect(server)
    with segmenter.start(image(), MM) as session:
        session.add(CLICKS[0])
        server.leases.clear()
        with pytest.raises(SegmenterError, match="lease is gone"):
            session.add(CLICKS[1])
        assert session.clicks == (CLICKS[0],)
    with segmenter.start(image(), MM) as session:
        assert session.add(CLICKS[0]).mask.any()


@pytest.mark.parametrize(
    ("mood", "error"), [("413", SegmenterError), ("400", InputError), ("hangs", SegmenterTimeoutError)]
)
def test_a_refused_image_costs_no_lease(server: FakeServer, mood: str, error: type[Exception]) -> None:
    server.most = 1
    segmenter = connect(server, limit=0.5)
    server.mood = mood
    for _ in range(2):
        with pytest.raises(error):
            segmenter.start(image(), MM)
    server.mood = ""
    with segmenter.start(image(), MM) as session:
        assert session.add(CLICKS[0]).mask.any()
    assert server.calls.count("/claim") == 1
    assert "/release" not in server.calls


@pytest.mark.parametrize(("call", "method"), [("undo", "undo"), ("reset", "reset_interactions")])
def test_after_a_lost_answer_all_prompts_are_given_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, call: str, method: str
) -> None:
    with connect(server).start(image(), MM) as session, Geodesic().start(image(), MM) as here:
        clicks = CLICKS[0], Click((1, 2, 28))
        for click in clicks:
            session.add(click)
            here.add(click)
        client = session._client  # type: ignore[attr-defined]
        answered = getattr(client, method)

        def lose() -> None:
            answered()
            raise httpx.ReadTimeout("the answer is lost")

        with monkeypatch.context() as patched:
            patched.setattr(client, method, lose)
            with pytest.raises(SegmenterTimeoutError):
                getattr(session, call)()
        assert session.clicks == clicks
        assert np.array_equal(session.add(CLICKS[2]).mask, here.add(CLICKS[2]).mask)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(InputError, match="NN_INTERACTIVE_API_KEY") as refused:
        NnInteractive("http://me:secret@127.0.0.1:1527")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("mood", "message"), [("500", "status 500"), ("garbage", "cannot be read"), ("other-grid", "cannot be read")]
)
def test_a_server_that_misbehaves_costs_its_click(server: FakeServer, mood: str, message: str) -> None:
    segmenter = connect(server)
    with segmenter.start(image(), MM) as session:
        first = session.add(CLICKS[0]).mask
        server.mood = mood
        with pytest.raises(SegmenterError, match=message):
            session.add(CLICKS[1])
        server.mood = ""
        assert session.clicks == (CLICKS[0],)
        with Geodesic().start(image(), MM) as here:
            assert np.array_equal(here.add(CLICKS[0]).mask, first)
            assert np.array_equal(session.add(CLICKS[1]).mask, here.add(CLICKS[1]).mask)


def test_a_server_that_hangs_or_is_gone_is_a_typed_error(server: FakeServer) -> None:
    segmenter = connect(server, limit=0.5)
    session = segmenter.start(image(), MM)
    server.mood = "hangs"
    with pytest.raises(SegmenterTimeoutError, match=r"within 0.5 s"):
        session.add(CLICKS[0])
    server.mood = ""
    server.close()
    with pytest.raises(SegmenterError, match="cannot be reached"):
        session.add(CLICKS[0])


def test_a_full_server_and_one_that_wants_a_key_say_so(server: FakeServer) -> None:
    server.most = 1
    segmenter = connect(server)
    with segmenter.start(image(), MM), pytest.raises(SegmenterError, match="server is full"):
        segmenter.start(image(), MM)
    server.mood = "401"
    with pytest.raises(InputError, match="NN_INTERACTIVE_API_KEY"):
        connect(server)


def test_what_the_server_lacks_is_refused_before_it_is_asked(server: FakeServer) -> None:
    segmenter = connect(server)
    assert segmenter.capabilities.boxes
    with segmenter.start(image(), MM) as session:
        with pytest.raises(InputError, match="boxes of one slice alone"):
            session.prompt(box=Box((0, 2, 2), (3, 9, 9)))
        with pytest.raises(InputError, match="refused the prompt"):
            session.prompt(box=Box((1, 2, 2), (2, 9, 9)))  # the server's segmenter takes none
        assert session.add(CLICKS[0]).mask.any()
    server.capabilities = server.capabilities | {"supported_interactions": {"points": False}}
    server.leases.clear()
    with pytest.raises(InputError, match="takes no points"):
        connect(server)


def test_an_address_where_nothing_listens_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        NnInteractive("http://127.0.0.1:9")
