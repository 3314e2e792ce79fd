"""Tests SAM-Med3D: the official architecture with random weights, and its geometry voxel by voxel."""

import argparse
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from synthfm_env.errors import InputError
from synthfm_env.metrics import dice
from synthfm_env.prompts import Click
from synthfm_env.segmenters.sam_med3d import SamMed3D, load_sam_med3d
from synthfm_env.segmenters.sam_med3d_grid import TargetGrid
from synthfm_env.testing import check_segmenter
from synthfm_env.volumes import load_volume

medim = pytest.importorskip("medim", reason="needs the extra 'sammed3d'")

CPU = torch.device("cpu")


def small_model() -> nn.Module:
    """Return the official classes with a cube of 32 voxels and random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = medim.create_model(
            "SAM-Med3D",
            encoder_embed_dim=24,
            encoder_depth=2,
            encoder_num_heads=2,
            prompt_embed_dim=48,
            image_size=32,
            encoder_global_attn_indexes=[0, 1],
        )
    return model.eval()


class Thresholds(nn.Module):
    """Stands in for the model: its logits say where its cube is brighter than half way from dark to bright."""

    class Encoder(nn.Module):
        img_size = 32

        def forward(self, cube: torch.Tensor) -> torch.Tensor:
            return cube

    class Prompts(nn.Module):
        points: torch.Tensor

        def forward(self, points: list[torch.Tensor], boxes: None, masks: torch.Tensor) -> tuple[None, None]:
            self.points = points[0]
            return None, None

        def get_dense_pe(self) -> None:
            return None

    class Decoder(nn.Module):
        def forward(self, image_embeddings: torch.Tensor, **kwargs: object) -> tuple[torch.Tensor, None]:
            middle = (image_embeddings.max() + image_embeddings.min()) / 2
            return functional.avg_pool3d(image_embeddings, 4) - middle, None

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder, self.prompt_encoder, self.mask_decoder = self.Encoder(), self.Prompts(), self.Decoder()
        self.weight = nn.Parameter(torch.zeros(1))


def blob(shape: tuple[int, int, int], spacing: tuple[float, float, float], centre_mm: tuple[float, ...]) -> np.ndarray:
    """Return an ellipsoid of 18 x 14 x 10 mm about (z, y, x), sampled at voxel centres."""
    grids = np.meshgrid(*[(np.arange(n) + 0.5) * mm for n, mm in zip(shape, spacing, strict=True)], indexing="ij")
    radii = (18.0, 14.0, 10.0)
    return np.asarray(sum(((g - c) / r) ** 2 for g, c, r in zip(grids, centre_mm, radii, strict=True)) <= 1)


def answer(truth: np.ndarray, spacing: tuple[float, float, float], click: tuple[int, int, int]) -> np.ndarray:
    image = np.where(truth, 200, 1).astype(np.uint8)
    with SamMed3D(Thresholds()).start(image, spacing) as session:
        return session.add(Click(click)).mask


def middle(truth: np.ndarray) -> tuple[int, int, int]:
    z, y, x = (int(v) for v in np.argwhere(truth).mean(axis=0).round())
    return z, y, x


def test_the_official_architecture_keeps_the_contract() -> None:
    check_segmenter(SamMed3D(small_model()))


@pytest.mark.parametrize(
    "spacing", [(1.5, 1.5, 1.5), (1.0, 1.0, 1.0), (5.0, 0.8, 0.8), (0.7, 3.0, 1.5), (2.5, 0.7, 1.9), (7.7, 1.25, 1.25)]
)
def test_a_mask_comes_back_where_the_structure_is_whatever_the_spacing(spacing: tuple[float, float, float]) -> None:
    shape = tuple(int(80 / mm) for mm in spacing)
    truth = blob(shape, spacing, (38.0, 45.0, 33.0))  # type: ignore[arg-type]
    found = answer(truth, spacing, middle(truth))
    # The decoder's logits are 6 mm apart, so what remains is the edge's discretisation.
    assert dice(found, truth) > 0.85
    offset = (np.argwhere(found).mean(axis=0) - np.argwhere(truth).mean(axis=0)) * spacing
    assert np.abs(offset).max() < 1.0


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL", "ASL"])
def test_the_orientation_of_the_file_does_not_matter(axes: str, tmp_path: Path) -> None:
    truth = blob((30, 44, 52), (2.5, 1.5, 1.2), (30.0, 25.0, 40.0))
    voxels = np.where(truth, 200, 60).astype(np.uint8)
    stored = nib.Nifti1Image(voxels.T, np.diag([1.2, 1.5, 2.5, 1.0]))
    turned = stored.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    )
    nib.save(turned, tmp_path / "turned.nii.gz")
    volume = load_volume(tmp_path / "turned.nii.gz")
    model = small_model()
    with SamMed3D(model).start(voxels, (2.5, 1.5, 1.2)) as session:
        expected = session.add(Click(middle(truth))).mask
    with SamMed3D(model).start(volume.image.astype(np.uint8), volume.spacing) as session:
        assert np.array_equal(session.add(Click(middle(truth))).mask, expected)


def test_the_model_is_fed_xyz_with_the_click_on_its_own_voxel() -> None:
    model = Thresholds()
    image = np.full((40, 48, 56), 50, np.uint8)
    image[20, 21, 22] = 250
    with SamMed3D(model).start(image, (1.5, 1.5, 1.5)) as session:
        session.add(Click((20, 21, 22)))
        cube = next(iter(session._features.values()))[0, 0]
    x, y, z = (int(v) for v in model.prompt_encoder.points[0, 0])
    assert (x, y, z) == tuple(int(v) for v in np.unravel_index(int(cube.argmax()), cube.shape))
    corner = (22 - 16, 21 - 16, 20 - 16)
    assert (x, y, z) == (22 - corner[0], 21 - corner[1], 20 - corner[2])


def test_intensities_are_standardised_over_voxels_above_zero_and_padding_stays_out() -> None:
    image = np.random.default_rng(0).integers(1, 200, (10, 12, 14), dtype=np.uint8)
    model = Thresholds()
    with SamMed3D(model).start(image, (1.5, 1.5, 1.5)) as session:
        session.add(Click((5, 6, 7)))
        cube = next(iter(session._features.values()))[0, 0].numpy()
    inside = cube[9:23, 10:22, 11:21]
    assert abs(inside.mean()) < 1e-4
    assert abs(inside.std() - 1) < 1e-3


def test_the_cube_follows_the_clicks_alone_and_a_far_click_gets_its_own() -> None:
    shape, spacing = (40, 60, 200), (1.5, 1.5, 1.5)
    near, far = blob(shape, spacing, (30.0, 45.0, 40.0)), blob(shape, spacing, (30.0, 45.0, 250.0))
    image = np.where(near | far, 200, 1).astype(np.uint8)
    with SamMed3D(Thresholds()).start(image, spacing) as session:
        first = session.add(Click(middle(near))).mask
        assert dice(first, near) > 0.85
        both = session.add(Click(middle(far))).mask
        assert dice(both, near | far) > 0.85
        assert np.array_equal(session.undo().mask, first)


def test_a_mask_that_touches_the_cube_is_followed_into_the_next_one() -> None:
    spacing = (1.5, 1.5, 1.5)
    image = np.full((24, 24, 80), 1, np.uint8)
    image[8:16, 8:16, 20:70] = 200  # longer than a cube of 32
    truth = image == 200
    with SamMed3D(Thresholds()).start(image, spacing) as session:
        mask = session.add(Click((12, 12, 44))).mask
    assert dice(mask, truth) > 0.8
    assert mask[12, 12, 24]
    assert mask[12, 12, 66]


@pytest.mark.parametrize("shape", list(itertools.product((2, 40), (3, 40), (1, 40))))
def test_grids_smaller_and_larger_than_the_cube(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    with SamMed3D(small_model()).start(image, (3.0, 0.5, 1.0)) as session:
        assert session.add(Click(tuple(n - 1 for n in shape))).mask.shape == shape  # type: ignore[arg-type]


def test_target_voxels_cover_the_image_and_places_invert() -> None:
    grid = TargetGrid((10, 20, 30), (3.0, 1.5, 0.75))
    assert grid.lengths == (20, 20, 15)
    assert grid.voxel_of((9, 19, 29)) == (19, 19, 14)
    there = grid.target_places(0, np.arange(10))
    assert np.allclose(grid.image_places(0, there), np.arange(10))  # type: ignore[arg-type]


def test_an_image_of_one_slice_is_refused() -> None:
    with pytest.raises(InputError, match="volumes alone"):
        SamMed3D(Thresholds()).start(np.zeros((1, 8, 8), np.uint8), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("spacing", [(1e19, 1.0, 1.0), (1.0, 1.0, 1e300), (1e308, 1e308, 1e308)])
def test_an_image_of_impossible_length_is_refused(spacing: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="give the real one"):
        SamMed3D(Thresholds()).start(np.zeros((4, 8, 8), np.uint8), spacing)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "turbo.pth").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_sam_med3d(tmp_path / "turbo.pth", CPU)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(tmp_path / "written"), "w")

    torch.save({"model_state_dict": {}, "args": Attack()}, tmp_path / "turbo.pth")
    with pytest.raises(InputError, match="holds more than tensors; nothing of it was run"):
        load_sam_med3d(tmp_path / "turbo.pth", CPU)
    assert not (tmp_path / "written").exists()


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"model_state_dict": small_model().state_dict()}, tmp_path / "small.pth")
    with pytest.raises(InputError, match="do not fit the model"):
        load_sam_med3d(tmp_path / "small.pth", CPU)


@pytest.mark.slow
def test_the_published_form_of_a_checkpoint_loads(tmp_path: Path) -> None:
    """The authors' training loop stores arguments, losses and an optimiser's state beside the tensors."""
    model = medim.create_model("SAM-Med3D", pretrained=False)
    content = {
        "epoch": 3,
        "model_state_dict": model.state_dict(),
        "losses": [np.float64(0.5), 0.25],
        "best_dice": np.float32(0.8),
        "args": argparse.Namespace(lr=8e-4, gpu_ids=[0, 1]),
        "used_datas": ["data/train/liver/ct_WORD"],
    }
    torch.save(content, tmp_path / "sam_med3d_turbo.pth")
    assert load_sam_med3d(tmp_path / "sam_med3d_turbo.pth", CPU).side == 128
