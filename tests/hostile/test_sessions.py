"""Tests sessions after a refused click, with whole-number spacing, and with long histories."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfm_env.envs.actions import read_action
from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.block_grid import BlockGrid
from synthfm_env.segmenters.click_distances import KEPT_MAPS, ClickDistances


@pytest.fixture
def image():
    return (np.random.default_rng(0).random((6, 20, 20)) * 255).astype(np.uint8)


BAD = [
    Click((1.5, 1, 1)),  # type: ignore[arg-type]
    Click((1, 1)),  # type: ignore[arg-type]
    Click("abc"),  # type: ignore[arg-type]
    Click(None),  # type: ignore[arg-type]
    Click((True, 1, 1)),
    Click((-1, 0, 0)),
    Click((6, 0, 0)),
    None,
    (1, 2, 3),
]


@pytest.mark.parametrize("click", BAD, ids=repr)
def test_a_refused_click_leaves_the_session_as_it_was(image, click):
    with make_segmenter("geodesic").start(image, (1.0, 1.0, 1.0)) as session:
        first = session.add(Click((3, 10, 10))).mask
        with pytest.raises(InputError):
            session.add(click)
        assert session.clicks == (Click((3, 10, 10)),)
        session.add(Click((3, 2, 2), positive=False))
        assert np.array_equal(session.undo().mask, first)


@pytest.mark.parametrize("spacing", [(1, 1, 1), [2, 1, 1], np.array([3, 1, 1]), (np.int64(2), 1, 1)])
def test_whole_numbers_are_lengths(image, spacing):
    exact = tuple(float(length) for length in spacing)
    masks = []
    for given_spacing in (spacing, exact):
        with make_segmenter("geodesic").start(image, given_spacing) as session:
            masks.append(session.add(Click((3, 10, 10))).mask)
    assert np.array_equal(*masks)


@pytest.mark.parametrize("spacing", ["abc", None, 1.0, (1, 1), (0, 1, 1), ("a", 1, 1), (float("nan"), 1, 1)])
def test_a_spacing_that_is_none_is_refused(image, spacing):
    with pytest.raises(InputError, match="three positive lengths"):
        make_segmenter("geodesic").start(image, spacing)


@given(moves=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 19), st.booleans()) | st.none(), max_size=60))
@settings(max_examples=15)
def test_distances_after_any_undos_are_those_of_the_clicks_in_force(moves):
    image = np.zeros((6, 20, 20), dtype=np.uint8)
    image[2:4, 5:15] = 200
    history = [ClickDistances(image, (1.0, 1.0, 1.0))]
    for move in moves:
        if move is not None:
            history.append(history[-1].with_click(Click((move[0], move[1], move[1]), move[2])))
        elif len(history) > 1:
            history.pop()
    fresh = ClickDistances(image, (1.0, 1.0, 1.0))
    for click in history[-1].clicks:
        fresh = fresh.with_click(click)
    distances = history[-1]
    assert np.array_equal(distances.to_positive, fresh.to_positive)
    assert np.array_equal(distances.to_negative, fresh.to_negative)


def test_undo_keeps_a_bounded_number_of_maps_and_reaches_the_first_click(image):
    with make_segmenter("geodesic").start(image, (1.0, 1.0, 1.0)) as session:
        masks = []
        for number in range(2 * KEPT_MAPS + 3):
            masks.append(session.add(Click((number % 6, number % 20, 3), number % 2 == 0)).mask)
            assert sum(distances._maps is not None for distances in session._history) <= KEPT_MAPS + 1
        for expected in reversed(masks[:-1]):
            assert np.array_equal(session.undo().mask, expected)


@pytest.mark.parametrize("action", [[1, [2]], [1, 2], "abc", None, [2**70, 0, 0, 0], [0.0, 0, 0, 1], object()])
def test_an_action_that_is_none_is_refused(action):
    with pytest.raises(InputError, match="give four integers"):
        read_action(action, (6, 20, 20))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "expected a name or a path"),
        (5, "expected a name or a path"),
        (b"geodesic", "expected a name or a path"),
        (":X", "expected package.module:Class"),
        ("..:X", "expected package.module:Class"),
        ("synthfm_env.segmenters:Segmenter", "is abstract: it lacks start"),
        ("hostile_players:RaisesInInit", "cannot be built: RuntimeError: boom"),
        ("hostile_players:ExitsInInit", "cannot be built: SystemExit"),
        ("hostile_players:Nothing", "cannot be imported"),
        ("os:path", "is no subclass"),
    ],
)
def test_a_segmenter_that_is_none_is_refused_in_one_line(name, message):
    with pytest.raises(InputError, match=message):
        make_segmenter(name)


def test_parameters_that_a_segmenter_lacks_are_refused():
    with pytest.raises(InputError, match="planes=99"):
        make_segmenter("geodesic", options={"planes": 99})


@pytest.mark.parametrize("zyx", [[3, 10, 12], (np.int64(3), 10, np.uint8(12)), tuple(np.array([3, 10, 12]))], ids=repr)
def test_an_index_of_lists_or_of_numpys_integers_is_a_plain_tuple(zyx):
    for index in (Click(zyx).zyx, Box(zyx, (6, 20, 20)).start, Box((0, 0, 0), zyx).stop):
        assert index == (3, 10, 12)
        assert type(index) is tuple
        assert all(type(i) is int for i in index)


@pytest.mark.parametrize("name", ["geodesic", "random-walker"])
def test_a_click_given_as_a_list_has_the_mask_of_the_same_tuple(image, name):
    with make_segmenter(name).start(image, (1.0, 1.0, 1.0)) as session:
        as_tuple = session.add(Click((3, 10, 12))).mask
        session.reset()
        assert np.array_equal(session.add(Click([3, 10, 12])).mask, as_tuple)  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", ["add", "undo"])
def test_a_failed_answer_leaves_a_geodesic_session_as_it_was(image, monkeypatch, verb):
    clicks = (Click((3, 10, 10)), Click((3, 2, 2), positive=False))
    with make_segmenter("geodesic").start(image, (1.0, 1.0, 1.0)) as session:
        for click in clicks:
            session.add(click)
        with monkeypatch.context() as patched:
            patched.setattr(BlockGrid, "positive", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                session.add(Click((1, 1, 1))) if verb == "add" else session.undo()
        assert session.clicks == clicks


@pytest.mark.parametrize("name", ["geodesic", "random-walker"])
def test_the_spacing_across_a_single_slice_does_not_matter(image, name):
    masks = []
    for thickness in (1.0, 1e-30):
        with make_segmenter(name).start(image[:1], (thickness, 1.0, 1.0)) as session:
            masks.append(session.add(Click((0, 10, 12))).mask)
    assert np.array_equal(*masks)


@pytest.mark.parametrize(
    "spacing", [(1e-300, 1.0, 1e300), (1e300, 1.0, 1.0), (1e-300, 1.0, 1.0), (1e300, 1e300, 1e300)]
)
@pytest.mark.parametrize("name", ["geodesic", "random-walker"])
def test_any_ratio_of_the_spacing_is_answered_without_a_warning(image, name, spacing):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with make_segmenter(name).start(image, spacing) as session:
            assert session.add(Click((3, 10, 12))).mask[3, 10, 12]
