"""Tests the check of images that all segmenters share."""

import numpy as np
import pytest

from synthfm_env.errors import InputError
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.volumes import to_uint8

MM = (1.0, 1.0, 1.0)


def test_uint8_is_taken_as_it_is() -> None:
    grey = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    rgb = np.stack([grey, grey + 1, grey + 2], axis=-1)
    assert np.array_equal(prepare_image(grey, MM), grey)
    assert np.array_equal(prepare_image(rgb, MM), rgb)


def test_other_dtypes_are_scaled_and_rgb_keeps_its_colours() -> None:
    grey = np.random.default_rng(0).normal(500, 100, (2, 8, 8))
    assert np.array_equal(prepare_image(grey, MM), to_uint8(grey, "other"))
    red = np.zeros((1, 4, 4, 3))
    red[..., 0] = np.linspace(1, 2, 16).reshape(1, 4, 4)
    scaled = prepare_image(red, MM)
    assert scaled.shape == red.shape
    assert scaled[..., 0].max() == 255
    assert not scaled[..., 1:].any()


@pytest.mark.parametrize(
    ("image", "spacing", "word"),
    [
        (np.zeros((4, 4)), MM, "newaxis"),
        (np.zeros((1, 2, 4, 4)), MM, "(1, 2, 4, 4)"),
        (np.zeros(4), MM, "(4,)"),
        (np.zeros((0, 4, 4)), MM, "no voxels"),
        (np.full((1, 4, 4), np.nan), MM, "16 voxels"),
        (np.zeros((1, 4, 4)), (1.0, 0.0, 1.0), "spacing"),
        (np.zeros((1, 4, 4)), (1.0, float("nan"), 1.0), "spacing"),
        (np.zeros((1, 4, 4)), (1.0, 1.0), "spacing"),
        ([[[1, 2]]], MM, "list"),
    ],
)
def test_unusable_input_is_named(image: np.ndarray, spacing: tuple[float, ...], word: str) -> None:
    with pytest.raises(InputError) as caught:
        prepare_image(image, spacing)
    assert word in str(caught.value)
