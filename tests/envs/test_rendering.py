"""Tests the places of contours and clicks in pictures."""

import numpy as np

from synthfm_env import Click
from synthfm_env.envs.rendering import GAP, MASK, NEGATIVE, PANEL, POSITIVE, SINGLE_PANEL, TRUTH, draw_frame


def scene(shape=(20, 40, 40)):
    image = np.full(shape, 120, np.uint8)
    truth, mask = np.zeros((2, *shape), bool)
    z, y, x = (n // 2 for n in shape)
    truth[max(0, z - 5) : z + 5, y - 10 : y + 10, x - 10 : x + 10] = True
    mask[max(0, z - 3) : z + 3, y - 6 : y + 6, x - 6 : x + 6] = True
    return image, mask, truth


def has(frame, colour):
    return bool((frame == colour).all(axis=-1).any())


def body(frame):
    """The picture without the lines of text at its upper and lower edge."""
    return frame[30:-30]


def panels(frame):
    return [frame[:, i * (PANEL + GAP) : i * (PANEL + GAP) + PANEL] for i in range(3)]


def test_three_planes_of_a_volume_and_one_of_an_image():
    image, mask, truth = scene()
    assert draw_frame(image, mask, truth, [], (1, 1, 1)).shape == (PANEL, 3 * PANEL + 2 * GAP, 3)
    flat = draw_frame(image[:1], mask[:1], truth[:1], [], (1, 1, 1))
    assert flat.shape == (SINGLE_PANEL, SINGLE_PANEL, 3)


def test_every_plane_shows_both_contours_unless_the_truth_is_left_out():
    image, mask, truth = scene()
    for panel in panels(draw_frame(image, mask, truth, [], (2, 1, 1))):
        assert has(body(panel), MASK)
        assert has(body(panel), TRUTH)
    hidden = draw_frame(image, mask, None, [], (2, 1, 1))
    assert has(body(hidden), MASK)
    assert not has(hidden, TRUTH)


def test_contours_that_agree_both_show():
    image, _, truth = scene()
    frame = body(draw_frame(image, truth, truth, [], (1, 1, 1)))
    assert has(frame, MASK)
    assert has(frame, TRUTH)


def test_a_mask_over_everything_is_outlined_at_the_border_and_no_truth_appears_from_nowhere():
    image = np.full((4, 30, 30), 99, np.uint8)
    everything = np.ones(image.shape, bool)
    frame = body(draw_frame(image, everything, everything, [], (1, 1, 1)))
    assert has(frame, MASK)
    assert not has(frame, TRUTH)


def test_clicks_show_in_the_planes_that_hold_them():
    image, mask, truth = scene()
    clicks = [Click((3, 35, 35), positive=False), Click((10, 20, 20))]
    for panel in panels(draw_frame(image, mask, truth, clicks, (1, 1, 1))):
        assert has(panel, POSITIVE)
        assert not has(panel, NEGATIVE)
    clicks = [Click((10, 35, 35), positive=False), Click((10, 20, 20))]
    axial, coronal, sagittal = panels(draw_frame(image, mask, truth, clicks, (1, 1, 1)))
    assert has(axial, NEGATIVE)
    assert not has(coronal, NEGATIVE)
    assert not has(sagittal, NEGATIVE)


def centre_of(panel, colour):
    return np.argwhere((panel == colour).all(axis=-1)).mean(axis=0)


def test_z_points_upwards_and_y_downwards_unless_the_front_goes_up():
    image, mask, truth = scene((40, 40, 40))
    clicks = [Click((36, 35, 10))]
    axial, coronal, sagittal = panels(draw_frame(image, mask, truth, clicks, (1, 1, 1)))
    pixel = PANEL / 40
    assert np.allclose(centre_of(axial, POSITIVE), ((35 + 0.5) * pixel, (10 + 0.5) * pixel), atol=2)
    assert np.allclose(centre_of(coronal, POSITIVE), ((3 + 0.5) * pixel, (10 + 0.5) * pixel), atol=2)
    assert np.allclose(centre_of(sagittal, POSITIVE), ((3 + 0.5) * pixel, (35 + 0.5) * pixel), atol=2)
    turned = panels(draw_frame(image, mask, truth, clicks, (1, 1, 1), anterior_up=True))
    assert np.allclose(centre_of(turned[0], POSITIVE), ((4 + 0.5) * pixel, (10 + 0.5) * pixel), atol=2)
    assert (turned[1] == coronal).all()


def test_thick_slices_keep_their_proportions():
    image = np.full((10, 40, 40), 120, np.uint8)
    truth = np.zeros(image.shape, bool)
    coronal = panels(draw_frame(image, truth, truth, [], (2, 1, 1)))[1][:, 100:]  # right of the text
    drawn = np.flatnonzero((coronal == 120).all(axis=(1, 2)))
    assert drawn[-1] - drawn[0] + 1 == PANEL // 2


def test_the_caption_is_written():
    image, mask, truth = scene()
    plain = draw_frame(image, mask, truth, [], (1, 1, 1))
    written = draw_frame(image, mask, truth, [], (1, 1, 1), caption="Dice 0.500")
    assert (plain[:30] != written[:30]).any()
    assert (body(plain) == body(written)).all()
