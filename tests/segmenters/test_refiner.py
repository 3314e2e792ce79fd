"""Tests the refiner: its input, the voxels that it may change, and its use by the default session."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.sam2 import Refiner, RefinerInput, load_refiner, seeded
from synthfm_env.segmenters.sam2.multiview.click_prior import ClickPrior
from synthfm_env.segmenters.sam2.multiview.refiner_input import CHANNELS

MM = (1.0, 1.0, 1.0)
BOX = (slice(2, 14), slice(10, 50), slice(4, 44))


def refiner_input(
    shape: tuple[int, int, int] = (12, 20, 20), clicks: tuple[Click, ...] = (Click((8, 30, 24)),)
) -> RefinerInput:
    """Return an input with a ball in its middle."""
    generator = torch.Generator().manual_seed(0)
    places = torch.meshgrid(*(torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape), indexing="ij")
    ball = 6 - 12 * torch.stack(places).norm(dim=0)
    views = torch.stack((ball, ball - 1, ball + 1))
    near = torch.zeros(shape)
    return RefinerInput(BOX, views, ClickPrior(near, near), 80 + 20 * torch.randn(shape, generator=generator), clicks)


def random_refiner() -> Refiner:
    with seeded(0):
        refiner = Refiner()
        torch.nn.init.normal_(refiner.head.weight)
    return refiner.eval()


@torch.inference_mode()
def test_untrained_it_changes_nothing() -> None:
    given = refiner_input()
    assert torch.equal(Refiner().refine(given), given.views[0])


def test_clicks_are_found_on_the_grid() -> None:
    given = refiner_input(clicks=(Click((2, 10, 4)), Click((13, 49, 43), False), Click((8, 30, 24))))
    # Voxels of the image are one grid voxel thick along z and half of one along y and x.
    np.testing.assert_allclose(given.click_places(), [[0, -0.25, -0.25], [11, 19.25, 19.25], [6, 9.75, 9.75]])
    blobs = given.channels()[6]
    assert float(blobs[6, 10, 10]) > 0.9
    assert float(blobs[11, 19, 19]) < -0.9
    assert abs(float(blobs[0, 19, 0])) < 0.01


def test_it_sees_the_same_in_a_brighter_image_of_more_contrast() -> None:
    given = refiner_input()
    seen, again = given.channels(), given._replace(grey=2 * given.grey + 30).channels()
    np.testing.assert_allclose(again[:7], seen[:7])
    np.testing.assert_allclose(again[7:], seen[7:], rtol=0.12, atol=0.01)  # but for the constant added for flat images
    flat = given._replace(grey=torch.full_like(given.grey, 90)).channels()
    assert torch.equal(flat[7:], torch.zeros_like(flat[7:]))


@torch.inference_mode()
def test_far_from_the_mask_and_the_clicks_nothing_changes() -> None:
    shape = (12, 60, 60)
    given = refiner_input(shape)
    views = torch.full((3, *shape), -8.0)
    views[:, 4:7, 20:26, 20:26] = 4.0
    given = given._replace(views=views, clicks=(Click((8, 26, 20)), Click((0, 0, 0), False)))  # the second is outside
    changed = torch.nonzero(random_refiner().refine(given) != given.logits)
    assert len(changed) > 1000
    part = given.object_extent()
    assert part == (slice(0, 12), slice(12, 34), slice(12, 34))
    for axis, side in enumerate(part):
        assert side.start <= int(changed[:, axis].min())
        assert int(changed[:, axis].max()) < side.stop


@pytest.mark.parametrize("shape", [(6, 6, 6), (8, 92, 90), (40, 64, 48)])
def test_its_convolutions_give_what_torch_gives(shape: tuple[int, int, int]) -> None:
    refiner = random_refiner()
    channels = torch.randn((1, CHANNELS, *shape), generator=torch.Generator().manual_seed(1))
    expected = refiner(channels)  # with gradients torch chooses how
    assert expected.requires_grad
    with torch.inference_mode():
        np.testing.assert_allclose(refiner(channels), expected.detach(), atol=2e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 96, 96), (3, 17, 5), (13, 14, 15)])
@torch.inference_mode()
def test_any_shape_is_refined(shape: tuple[int, int, int]) -> None:
    given = refiner_input(shape)
    refined = random_refiner().refine(given)
    assert refined.shape == shape
    assert bool(refined.isfinite().all())


def test_a_file_is_loaded_strictly(tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in random_refiner().state_dict().items()}
    save_file(state, tmp_path / "r.safetensors")
    loaded = load_refiner(tmp_path / "r.safetensors").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    del state["stem.bias"]
    save_file(state, tmp_path / "r.safetensors")
    with pytest.raises(InputError, match=r"1 missing \(stem.bias\)"):
        load_refiner(tmp_path / "r.safetensors")
    (tmp_path / "r.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="damaged"):
        load_refiner(tmp_path / "r.safetensors")
    with pytest.raises(InputError, match="do not exist"):
        load_refiner(tmp_path / "none.safetensors")


@pytest.mark.slow
def test_the_default_is_refined_heeds_clicks_and_undoes_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (12, 48, 48), dtype=np.uint8)
    session = make_segmenter("synthfm3d-nano", device="cpu").start(image, MM)
    clicks = [Click((5, 20, 30)), Click((5, 21, 31), False), Click((9, 40, 8)), Click((0, 3, 3), False)]
    answers = [session.add(click) for click in clicks]
    for click, answer in zip(clicks, answers, strict=True):
        assert answer.mask[click.zyx] == click.positive
    for answer in answers[-2::-1]:
        back = session.undo()
        np.testing.assert_array_equal(back.mask, answer.mask)
        np.testing.assert_array_equal(back.logits, answer.logits)
    plain = make_segmenter("synthfm3d-nano", "cpu", options={"refine": False}).start(image, MM).add(clicks[0])
    assert (plain.mask != answers[0].mask).any()


@pytest.mark.slow
def test_a_refiner_of_ones_own_is_given_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({name: value.contiguous() for name, value in Refiner().state_dict().items()}, path)
    image = np.random.default_rng(0).integers(0, 255, (12, 48, 48), dtype=np.uint8)
    masks = [
        make_segmenter("synthfm3d-nano", "cpu", options={"refine": refine})
        .start(image, MM)
        .add(Click((5, 20, 30)))
        .mask
        for refine in (str(path), False)
    ]
    np.testing.assert_array_equal(*masks)  # untrained it changes nothing, unlike the packaged one
    with pytest.raises(InputError, match="are a refiner's; give them as an option of a segmenter"):
        make_segmenter(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 7, 8])
def test_images_and_thin_stacks_are_not_refined(depth: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (depth, 48, 48), dtype=np.uint8)
    refined, recorded = (
        make_segmenter("synthfm3d-nano", "cpu", options={"refine": refine})
        .start(image, MM)
        .add(Click((0, 20, 30)))
        .logits
        for refine in (True, False)
    )
    assert refined is not None
    assert recorded is not None
    assert np.array_equal(refined, recorded) is (depth < 8)
