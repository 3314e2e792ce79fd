"""Tests the conversion of intensities to 8 bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthfm_env.errors import InputError
from synthfm_env.volumes import to_uint8
from synthfm_env.volumes.intensity import SAMPLE_SIZE, spread_sample


def test_ct_window_is_level_40_width_400() -> None:
    hu = np.array([[[-1000, -160, -60, 41, 140, 240, 3000]]], dtype=np.int16)
    # (hu + 160) / 400 * 255, by hand
    assert to_uint8(hu, "CT").tolist() == [[[0, 0, 64, 128, 191, 255, 255]]]


def test_ct_without_a_negative_voxel_is_not_taken_for_hounsfield_units() -> None:
    shifted = np.linspace(0, 2000, 101).reshape(1, 1, -1)
    scaled = to_uint8(shifted, "CT")
    assert scaled.max() == 255
    assert 120 <= scaled[0, 0, 50] <= 135  # the HU window would have saturated here


def test_percentiles_leave_out_an_erased_background() -> None:
    image = np.zeros((4, 50, 50), dtype=np.float32)
    inside = np.linspace(100, 200, 1000, dtype=np.float32)
    image.reshape(-1)[:1000] = inside
    scaled = to_uint8(image, "MR")
    low, high = np.percentile(inside.astype(float), [0.5, 99.5])
    expected = np.rint((np.clip(inside.astype(float), low, high) - low) / (high - low) * 255)
    np.testing.assert_allclose(scaled.reshape(-1)[:1000], expected, atol=1)
    assert not scaled.reshape(-1)[1000:].any()


def test_uint8_passes_unchanged() -> None:
    image = np.array([[[3, 7], [100, 90]]], dtype=np.uint8)
    for modality in ("CT", "MR", "US", "other"):
        assert np.array_equal(to_uint8(image, modality), image)


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0])
def test_a_constant_image_is_black(value: float) -> None:
    assert not to_uint8(np.full((2, 3, 4), value, np.float32), "MR").any()


def test_a_binary_image_keeps_its_two_values() -> None:
    image = np.zeros((2, 3, 4), dtype=bool)
    image[0, 1, 2] = True
    assert np.array_equal(to_uint8(image, "other"), image * np.uint8(255))


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int16, np.uint16, np.int32]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.integers(0, 2000),
    ),
    st.sampled_from(["MR", "US", "other"]),
)
def test_order_of_intensities_is_kept(image: np.ndarray, modality: str) -> None:
    before = image.copy()
    scaled = to_uint8(image, modality)
    assert scaled.dtype == np.uint8
    assert scaled.shape == image.shape
    assert np.array_equal(image, before)
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(scaled.reshape(-1)[order].astype(int)) >= 0).all()


@given(st.floats(0.01, 1000), st.floats(0, 1000))
def test_scanner_gain_and_offset_do_not_matter(gain: float, offset: float) -> None:
    image = np.random.default_rng(0).uniform(1, 2, (3, 8, 8))
    plain = to_uint8(image, "MR").astype(int)
    assert abs(to_uint8(image * gain + offset, "MR") - plain).max() <= 1


def test_extreme_values_do_not_overflow() -> None:
    image = np.array([[[-1e300, 0.5, 1e300]]])
    assert to_uint8(image, "other").tolist() == [[[0, 128, 255]]]
    image = np.array([[[-(2**31), 0, 2**31 - 1]]], dtype=np.int32)
    assert to_uint8(image, "other").tolist() == [[[0, 128, 255]]]


def test_sample_of_a_large_image_visits_every_column_and_slice() -> None:
    shape = (20, 512, 512)
    flat = np.arange(np.prod(shape)).reshape(shape)
    picked = spread_sample(flat)
    assert SAMPLE_SIZE * 0.5 < picked.size <= SAMPLE_SIZE * 1.1
    z, y, x = np.unravel_index(picked, shape)
    counts = np.bincount(x, minlength=512)
    assert counts.min() > 0.9 * counts.max()
    assert np.unique(z).size == 20
    assert np.unique(y).size == 512


def test_sampled_window_is_close_to_the_full_one() -> None:
    image = np.random.default_rng(1).gamma(2.0, 100.0, (30, 256, 256)).astype(np.float32)
    low, high = np.percentile(image, [0.5, 99.5])
    expected = np.rint((np.clip(image, low, high) - low) / (high - low) * 255)
    assert np.abs(to_uint8(image, "MR") - expected).max() <= 2


@pytest.mark.parametrize(
    ("image", "modality", "words"),
    [
        (np.zeros((1, 2, 2)), "PET", ["PET", "CT, MR, US, other"]),
        (np.zeros((0, 2, 2)), "MR", ["no voxels"]),
        (np.array([[[0.0, np.nan, np.inf]]]), "MR", ["2 voxels", "NaN", "nan_to_num"]),
        (np.zeros((1, 2, 2), complex), "MR", ["complex128"]),
    ],
)
def test_unusable_input_is_named(image: np.ndarray, modality: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        to_uint8(image, modality)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
