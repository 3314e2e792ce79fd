import numpy as np
import pytest
from record import FILE, SEGMENTERS, SHAPES, play


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SEGMENTERS)
def test_masks_and_logits_are_the_recorded_ones(golden, name, shape):
    image, key = golden[f"{shape}/image"], f"{shape}/{name}"
    masks, logits = play(name, shape, image, golden[f"{key}/clicks"])
    recorded = np.unpackbits(golden[f"{key}/masks"], count=len(masks) * image.size).astype(bool)
    np.testing.assert_array_equal(np.stack(masks), recorded.reshape(len(masks), *image.shape))
    np.testing.assert_allclose(np.stack(logits), golden[f"{key}/logits"], atol=1e-4)
