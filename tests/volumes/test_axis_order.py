import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfm_env.errors import InputError
from synthfm_env.volumes import load_volume
from synthfm_env.volumes.axis_order import AxisOrder

orders = st.sampled_from(list(AxisOrder.every()))


@given(order=orders)
def test_an_order_is_undone_and_moves_voxels_with_their_array(order):
    array = np.arange(24).reshape(2, 3, 4)
    turned = order.to_volume(array)
    assert np.array_equal(order.from_volume(turned), array)
    assert turned.shape == order.lengths_to_volume(array.shape)
    for voxel in np.ndindex(array.shape):
        assert turned[order.voxel_to_volume(voxel, array.shape)] == array[voxel]


@given(first=orders, second=orders)
def test_two_orders_in_turn_are_one(first, second):
    array = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(second.after(first).to_volume(array), second.to_volume(first.to_volume(array)))


def test_there_are_48_orders():
    array = np.arange(8).reshape(2, 2, 2)
    assert len({order.to_volume(array).tobytes() for order in AxisOrder.every()}) == 48


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "IPL", "RSA"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 1), (1, 4, 5)])
def test_an_affine_turns_an_array_as_load_volume_turns_a_file(tmp_path, codes, shape):
    stored = nib.orientations.axcodes2ornt(codes)
    affine = nib.orientations.inv_ornt_aff(stored, shape) @ np.diag((3.0, 2.0, 1.0, 1.0))
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "image.nii")
    volume = load_volume(tmp_path / "image.nii")
    order = AxisOrder.from_affine(affine, shape)
    assert np.array_equal(order.to_volume(array), volume.image)
    assert order.affine_of_volume(affine, shape) == pytest.approx(volume.affine)
    assert order.lengths_to_volume(np.linalg.norm(affine[:3, :3], axis=0)) == pytest.approx(volume.spacing)


def test_an_affine_without_a_volume_is_refused():
    with pytest.raises(InputError, match="leave it out"):
        AxisOrder.from_affine(np.zeros((4, 4)), (2, 3, 4))
