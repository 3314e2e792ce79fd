import itertools

import nibabel as nib
import numpy as np
import pytest

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.volumes import load_volume
from synthfm_env.volumes.viewer_coordinates import clicks_in_volume

ORIENTATIONS = [
    "".join(code) for axes in itertools.permutations(["LR", "AP", "SI"]) for code in itertools.product(*axes)
]


def stored(path, orientation, shape=(3, 4, 5), oblique=0.0):
    """Write a file in which each voxel holds its own place, stored with the given orientation."""
    voxels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    turn = nib.orientations.axcodes2ornt(orientation)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (target, sign) in enumerate(turn):
        affine[int(target), axis] = sign * (2.0, 0.5, 3.0)[axis]
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(oblique), -np.sin(oblique)], [np.sin(oblique), np.cos(oblique)]]
    nib.save(nib.Nifti1Image(voxels, tilt @ affine), path)
    return voxels


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("oblique", [0.0, 0.3])
def test_a_stored_voxel_is_found_in_the_volume_whatever_the_orientation(tmp_path, orientation, oblique):
    path = tmp_path / "image.nii"
    voxels = stored(path, orientation, oblique=oblique)
    volume = load_volume(path)
    clicks = [Click((z, y, x), positive=x == 0) for x, y, z in np.ndindex(voxels.shape)]
    moved = clicks_in_volume(clicks, path, volume)
    for given, placed in zip(clicks, moved, strict=True):
        z, y, x = given.zyx
        assert volume.image[placed.zyx] == voxels[x, y, z]
        assert placed.positive == given.positive


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 1, 5), (1, 4, 5), (4, 5, 3, 1)])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR"])
def test_a_stored_voxel_of_a_2d_image_or_with_trailing_axes_is_found(tmp_path, shape, orientation):
    path = tmp_path / "image.nii.gz"
    voxels = stored(path, orientation, shape)
    volume = load_volume(path)
    for place in np.ndindex(shape):
        x, y, z = (*place, 0)[:3] if len(shape) < 4 else place[:3]
        (placed,) = clicks_in_volume([Click((z, y, x))], path, volume)
        assert volume.image[placed.zyx] == voxels[place]


@pytest.mark.parametrize("zyx", [(5, 0, 0), (0, 4, 0), (0, 0, 3), (-1, 0, 0)])
def test_a_click_outside_the_stored_grid_is_refused(tmp_path, zyx):
    path = tmp_path / "image.nii"
    stored(path, "PSR")
    with pytest.raises(InputError, match=r"is outside the volume: z, y, x must be below \(5, 4, 3\)"):
        clicks_in_volume([Click(zyx)], path, load_volume(path))


def test_lengths_in_metres_change_nothing(tmp_path):
    path = tmp_path / "image.nii"
    voxels = stored(path, "LPS")
    image = nib.load(path)
    image.header.set_xyzt_units("meter")
    again = tmp_path / "metres.nii"
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), again)
    volume = load_volume(again)
    (placed,) = clicks_in_volume([Click((4, 3, 2))], again, volume)
    assert volume.image[placed.zyx] == voxels[2, 3, 4]
