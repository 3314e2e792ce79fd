"""Tests changed bytes in NIfTI files, wrong labels and headers, and broken weights files."""

import gzip
import json
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import result_or_refusal
from safetensors.torch import save_file

from synthfm_env.errors import InputError
from synthfm_env.memory_limit import VARIABLE, MemoryLimitError
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.weights_file import read_safetensors
from synthfm_env.volumes import Volume, load_volume, save_mask


@pytest.fixture(scope="module")
def nifti(tmp_path_factory):
    path = tmp_path_factory.mktemp("volumes") / "good.nii"
    nib.save(nib.Nifti1Image(np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4), np.diag([1.0, 1, 2, 1])), path)
    return path


@given(place=st.integers(0, 351), value=st.binary(min_size=1, max_size=8))
@settings(max_examples=250)
def test_any_bytes_in_a_header_give_a_volume_or_one_line(nifti, place, value):
    content = bytearray(nifti.read_bytes())
    content[place : place + len(value)] = value
    changed = nifti.with_name("changed.nii")
    changed.write_bytes(content)
    volume, refusal = result_or_refusal(load_volume, changed)
    if volume is None:
        assert "changed.nii" in refusal
    else:
        assert np.isfinite(volume.image).all()


def with_field(nifti, offset, form, *values):
    content = bytearray(nifti.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path = nifti.with_name("made.nii")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_promises_too_much_memory_is_refused_before_any_is_taken(nifti, packed):
    path = with_field(nifti, 42, "<3h", 32000, 32000, 32000)
    if packed:
        path = path.with_suffix(".nii.gz")
        path.write_bytes(gzip.compress(nifti.with_name("made.nii").read_bytes()))
    with pytest.raises(MemoryLimitError, match=r"made.nii.*promises shape \(32000, 32000, 32000\).*needs .* GiB"):
        load_volume(path)


def test_the_memory_of_a_volume_counts_its_stored_voxels_and_the_image_made_of_them(nifti, monkeypatch):
    path = with_field(nifti, 42, "<3h", 512, 512, 4)  # 2 MiB stored as int16, 4 MiB as float32
    path = path.with_suffix(".nii.gz")
    path.write_bytes(gzip.compress(nifti.with_name("made.nii").read_bytes() + bytes(2 << 20)))
    monkeypatch.setenv(VARIABLE, "5")
    with pytest.raises(MemoryLimitError, match="needs 6 MiB of memory"):
        load_volume(path)
    monkeypatch.setenv(VARIABLE, "6")
    assert load_volume(path).image.shape == (4, 512, 512)


def test_a_stream_that_goes_on_after_its_voxels_is_refused(nifti, monkeypatch):
    monkeypatch.setattr("synthfm_env.volumes.nifti_header.MOST_EXTRA_BYTES", 1000)
    path = nifti.with_name("bomb.nii.gz")
    path.write_bytes(gzip.compress(nifti.read_bytes() + bytes(500)))
    assert load_volume(path).image.shape == (4, 5, 6)  # padding is harmless
    path.write_bytes(gzip.compress(nifti.read_bytes() + bytes(3 << 20)))
    with pytest.raises(InputError, match=r"bomb\.nii\.gz: goes on for more than 1000 bytes after its voxels"):
        load_volume(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("offset", [1e9, 3e38, float("inf"), -1e9])
def test_voxels_that_begin_far_behind_the_header_are_refused(nifti, packed, offset):
    path = with_field(nifti, 108, "<f", offset)
    if packed:
        path = path.with_suffix(".nii.gz")
        path.write_bytes(gzip.compress(nifti.with_name("made.nii").read_bytes()))
    with pytest.raises(InputError, match="made"):
        load_volume(path)


def test_an_extension_larger_than_its_place_is_not_read(nifti, monkeypatch):
    content = bytearray(nifti.read_bytes())
    struct.pack_into("<f", content, 108, 1024.0)
    content[348:352] = b"\1\0\0\0"
    extended = bytes(content[:352]) + struct.pack("<2i", 2**31 - 16, 6) + bytes(1024 - 360) + bytes(content[352:])
    path = nifti.with_name("extended.nii.gz")
    path.write_bytes(gzip.compress(extended + bytes(64 << 20)))
    tracemalloc.start()
    result_or_refusal(load_volume, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20


def test_the_limit_can_be_set(nifti, monkeypatch):
    path = with_field(nifti, 42, "<3h", 600, 600, 6)
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(MemoryLimitError, match=rf"the limit is 1 MiB \({VARIABLE}\)"):
        load_volume(path)
    monkeypatch.setenv(VARIABLE, "much")
    with pytest.raises(InputError, match="expected a whole number of MiB"):
        load_volume(path)


@pytest.mark.parametrize(("slope", "inter"), [(float("inf"), 0.0), (float("-inf"), 0.0), (1.0, float("nan"))])
def test_an_infinite_scaling_is_refused(nifti, slope, inter):
    with pytest.raises(InputError, match="slope"):
        load_volume(with_field(nifti, 112, "<2f", slope, inter))


@pytest.mark.parametrize("value", [2**31, 2**32 - 1, 2**40])
def test_a_label_id_beyond_its_type_is_refused(nifti, tmp_path, value):
    label = np.zeros((6, 5, 4), dtype=np.int64)
    label[2, 2, 2] = value
    nib.save(nib.Nifti1Image(label, np.diag([1.0, 1, 2, 1]), dtype=np.int64), tmp_path / "label.nii")
    with pytest.raises(InputError, match=f"label ids end at 2147483647, found {value}"):
        load_volume(nifti, tmp_path / "label.nii")


def test_an_unknown_modality_is_refused(nifti):
    with pytest.raises(InputError, match="unknown modality 'XX'"):
        load_volume(nifti, modality="XX")
    with pytest.raises(InputError, match="unknown modality"):
        Volume(np.zeros((2, 2, 2), np.float32), modality="XX")


@pytest.mark.parametrize("path", [None, 5, b"good.nii", "a\0b"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(InputError, match="expected the path of a NIfTI file"):
        load_volume(path)


def test_nothing_is_printed_beside_the_error(nifti, capfd):
    with pytest.raises(InputError):
        load_volume(with_field(nifti, 70, "<h", 999))
    assert capfd.readouterr() == ("", "")


def test_a_mask_whose_name_is_too_long_is_refused_and_leaves_nothing(nifti, tmp_path):
    volume = load_volume(nifti)
    with pytest.raises(InputError, match="cannot be written"):
        save_mask(np.zeros(volume.image.shape), volume, tmp_path / ("a" * 250 + ".nii.gz"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((1 << 40).to_bytes(8, "little"), "a header of 1099511627776 bytes"),
        (b"", "damaged"),
        (b"text", "damaged"),
    ],
)
def test_a_weights_file_with_a_giant_or_no_header_is_refused(tmp_path, content, message):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_safetensors(tmp_path / "w.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    save_file({"a": torch.tensor([1.0, float("nan")])}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="a holds NaN or infinite values"):
        read_safetensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 10**6},
        {"stages": [10**6] * 4},
        {"embed_dim": 10**6},
        {"memory_layers": 10**6},
        {"d_model": 10**9},
    ],
)
def test_a_giant_architecture_is_refused_before_it_is_built(tmp_path, changes):
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors", metadata={"architecture": json.dumps(changes)})
    with pytest.raises(InputError, match="name no architecture of ours"):
        make_segmenter(str(tmp_path / "w.safetensors"))


def test_the_field_of_an_architecture_is_named(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors", metadata={"architecture": '{"stages": [1, 1, 999, 1]}'})
    with pytest.raises(InputError, match=r"no architecture of ours: stages\.2: Input should be"):
        make_segmenter(str(tmp_path / "w.safetensors"))


def test_a_long_name_is_cut_in_the_message():
    with pytest.raises(InputError, match=r"unknown segmenter 'a+\.\.\.: known"):
        make_segmenter("a" * 5000)


@pytest.mark.parametrize("size", ["abc", "", "-32", "33", "99999968"])
def test_an_image_size_that_is_none_is_refused(tmp_path, size):
    header = {"official": "sam2.1-hiera-tiny", "image_size": size}
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors", metadata=header)
    with pytest.raises(InputError, match="image_size"):
        make_segmenter(str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_checkpoint_that_is_none_is_refused_without_advice_to_trust_it(tmp_path, content, capfd):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(InputError, match="nothing of it was run") as error:
        make_segmenter(str(tmp_path / "w.pt"))
    assert "weights_only" not in str(error.value)
    assert capfd.readouterr().err == ""
