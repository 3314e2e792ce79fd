"""Tests the real volume in an installed package."""

import sys
from pathlib import Path

import numpy as np
import pytest

from synthfm_env.errors import InputError
from synthfm_env.volumes import bundled_volume, load_volume, save_mask


def test_mni152_has_a_brain_with_two_tissues(tmp_path: Path) -> None:
    pytest.importorskip("nilearn", reason="extra `real` is not installed")
    volume = bundled_volume("mni152")
    assert volume.image.shape == (95, 117, 99)
    assert volume.spacing == (2.0, 2.0, 2.0)
    assert volume.modality == "MR"
    assert volume.image.dtype == np.float32
    assert volume.image.flags.c_contiguous
    grey, white = volume.truth("grey matter"), volume.truth("white matter")
    assert not (grey & white).any()
    # T1 contrast, and adult tissue volumes in ml (8 mm3 a voxel)
    assert volume.image[white].mean() > volume.image[grey].mean() > volume.image.mean()
    assert 500 < grey.sum() * 0.008 < 1300
    assert 400 < white.sum() * 0.008 < 900
    # its masks are in MNI space: the frontal pole has a positive y
    save_mask(white, volume, tmp_path / "white.nii.gz")
    back = load_volume(tmp_path / "white.nii.gz")
    assert np.array_equal(back.image > 0, white)
    assert back.affine is not None
    assert np.array_equal(back.affine, volume.affine)


def test_an_unknown_or_missing_volume_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"unknown bundled volume 'mni125': did you mean mni152\?"):
        bundled_volume("mni125")
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(InputError, match=r'pip install "synthfm_env\[real\]"'):
        bundled_volume("mni152")
