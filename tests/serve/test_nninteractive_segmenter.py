"""Tests ``nninteractive:URL`` against ``synthfm serve``: equal masks in process and over the wire."""

import numpy as np
import pytest

pytest.importorskip("nnInteractive.inference.remote", reason="needs the extra 'nninteractive'")
import httpx
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession
from running import Corner, serving

from synthfm_bench.serve.app import Limits, make_app
from synthfm_env import Box, Click, make_segmenter
from synthfm_env.testing import check_segmenter

SHAPE = (6, 20, 24)
SPACING = (3.0, 1.0, 0.8)
CLICKS = [Click((3, 10, 12)), Click((0, 2, 2), False), Click((4, 14, 9))]


def image():
    picture = np.random.default_rng(0).integers(0, 60, SHAPE, dtype=np.uint8)
    picture[1:5, 5:15, 6:18] += 120
    return picture


def test_masks_equal_those_in_process():
    with serving(make_app(make_segmenter("geodesic"), limits=Limits(sessions=4, mib=8))) as url:
        segmenter = make_segmenter(f"nninteractive:{url}")
        with segmenter.start(image(), SPACING) as there, make_segmenter("geodesic").start(image(), SPACING) as here:
            for click in CLICKS:
                assert np.array_equal(there.add(click).mask, here.add(click).mask)
            for _ in range(2):
                assert np.array_equal(there.undo().mask, here.undo().mask)
            assert np.array_equal(there.add(CLICKS[2]).mask, here.add(CLICKS[2]).mask)


def test_eight_bits_are_not_scaled_again():
    noise = np.random.default_rng(1).normal(20, 8, SHAPE).clip(1, 60).astype(np.uint8)
    noise[:, 5:15, 6:18] += 20
    noise[0, 0, :2] = 0, 255
    with serving(make_app(make_segmenter("geodesic"), limits=Limits(sessions=4, mib=8))) as url:
        segmenter = make_segmenter(f"nninteractive:{url}")
        with segmenter.start(noise, SPACING) as there, make_segmenter("geodesic").start(noise, SPACING) as here:
            for click in CLICKS:
                assert np.array_equal(there.add(click).mask, here.add(click).mask)


def test_other_types_stated_to_be_windowed_are_refused():
    with serving(make_app(Corner(), limits=Limits(sessions=4, mib=8))) as url:
        client = nnInteractiveRemoteInferenceSession(url)
        for sent, windowed in ((image().astype(np.int16), True), (image(), "yes")):
            with pytest.raises(httpx.HTTPStatusError, match="400"):
                client.set_image(sent[None], {"windowed": windowed})
        client.close()


def test_the_contract_is_kept():
    with serving(make_app(make_segmenter("geodesic"), limits=Limits(sessions=8, mib=8))) as url:
        check_segmenter(make_segmenter(f"nninteractive:{url}"))


def test_clicks_boxes_and_masks_keep_their_axes():
    with serving(make_app(Corner(), limits=Limits(sessions=4, mib=8))) as url:
        segmenter = make_segmenter(f"nninteractive:{url}")
        mask = np.zeros(SHAPE, bool)
        mask[1, 2:5, 3:9] = True
        box = Box((2, 4, 5), (4, 9, 12))
        with segmenter.start(image(), SPACING) as there, Corner().start(image(), SPACING) as here:
            assert np.array_equal(there.add(Click((3, 11, 17))).mask, here.add(Click((3, 11, 17))).mask)
            assert np.array_equal(there.prompt(box=box).mask, here.prompt(box=box).mask)
            assert np.array_equal(there.undo().mask, here.undo().mask)
            there.reset()
            here.reset()
            assert np.array_equal(there.prompt(mask=mask).mask, here.prompt(mask=mask).mask)
