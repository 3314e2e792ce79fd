"""Tests weights files: strict loading, named differences, no code, half precision."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters import list_segmenters, make_segmenter
from synthfm_env.segmenters.devices import pick_device
from synthfm_env.segmenters.sam2 import (
    OFFICIAL,
    Architecture,
    SAM2Segmenter,
    build_model,
    build_official,
    load_weights,
    seeded,
)
from synthfm_env.segmenters.sam2.checkpoints import weights_path

SMALL = Architecture(embed_dim=16, stages=(1, 1, 2, 1), global_att_blocks=(3,), d_model=32, mem_dim=16, image_size=64)


@pytest.fixture
def state():
    with seeded(0):
        return {key: value.contiguous() for key, value in build_model(SMALL).state_dict().items()}


def test_a_seed_gives_the_same_model_and_leaves_torch_s_generator_as_it_was(state):
    before = torch.get_rng_state()
    with seeded(0):
        same = build_model(SMALL).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[key]) for key, value in same.items())


def write(state, path, metadata=None):
    save_file(state, path, metadata={"architecture": SMALL.to_json()} if metadata is None else metadata)
    return str(path)


def test_a_written_model_comes_back(state, tmp_path):
    model = load_weights(write(state, tmp_path / "w.safetensors"))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert make_segmenter(str(tmp_path / "w.safetensors"), device="cpu").model.image_size == 64


def test_each_difference_is_named(state, tmp_path):
    wrong = dict(state)
    del wrong["no_mem_embed"]
    wrong["surplus"] = torch.zeros(1)
    wrong["no_obj_ptr"] = torch.zeros(1, 7)
    with pytest.raises(
        InputError, match=r"1 missing \(no_mem_embed\); 1 unexpected \(surplus\); 1 mis-shaped.*no_obj_ptr"
    ):
        load_weights(write(wrong, tmp_path / "w.safetensors"))


def test_a_truncated_file_is_named(state, tmp_path):
    path = tmp_path / "w.safetensors"
    write(state, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged"):
        load_weights(str(path))


def test_a_file_without_architecture_is_refused(state, tmp_path):
    with pytest.raises(InputError, match="of no official SAM 2"):
        load_weights(write(state, tmp_path / "w.safetensors", metadata={}))


def test_a_pickle_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for name in ("w.safetensors", "w.pt"):
        torch.save(Trap(), tmp_path / name)
        with pytest.raises(InputError, match=r"no safetensors file|more than tensors"):
            make_segmenter(str(tmp_path / name))
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        make_segmenter(str(tmp_path / "gone.safetensors"))


def test_a_truncated_checkpoint_is_named(state, tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"model": state}, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="damaged"):
        make_segmenter(str(path))


WEIGHT = torch.zeros(2, 2)


@pytest.mark.parametrize(
    "content",
    [
        {1: WEIGHT},
        {("a", "b"): WEIGHT, "c": WEIGHT},
        {"a": WEIGHT.to(torch.float8_e4m3fn)},
        {"a": WEIGHT.to(torch.complex64)},
        {"a": torch.eye(2).to_sparse()},
        {"a": torch.empty(2, 2, device="meta")},
        {"a": torch.zeros(1).expand(2**44)},
        {"image_encoder.trunk.patch_embed.proj.weight": torch.tensor(3.0)},
        {"image_encoder.trunk.blocks": WEIGHT},
        {"\x1b[31mred\n": WEIGHT * float("nan")},
    ],
    ids=lambda content: "+".join(f"{key!r}" for key in content),
)
def test_a_checkpoint_of_odd_content_is_refused_in_one_line(tmp_path, content):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(InputError) as refusal:
        make_segmenter(str(tmp_path / "odd.pt"))
    assert str(refusal.value).isprintable()


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
def test_a_quantised_checkpoint_is_refused(tmp_path):
    torch.save({"a": torch.quantize_per_tensor(WEIGHT, 1.0, 0, torch.qint8)}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match="expected plain numbers"):
        make_segmenter(str(tmp_path / "odd.pt"))


def test_an_official_checkpoint_is_known_by_its_tensors_and_loads_strictly(tmp_path, monkeypatch):
    with seeded(0):
        state = build_official("sam2.1-hiera-tiny", image_size=64).state_dict()
    torch.save({"model": state}, tmp_path / "sam2.1_hiera_tiny.pt")
    monkeypatch.setenv("SYNTHFM_WEIGHTS", str(tmp_path))
    by_name, by_path = load_weights("sam2.1-hiera-tiny"), load_weights(str(tmp_path / "sam2.1_hiera_tiny.pt"))
    for model in (by_name, by_path):
        assert model.image_size == 1024
        assert model.add_all_frames_to_correct_as_cond
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    del state["no_obj_ptr"]
    torch.save({"model": state}, tmp_path / "sam2.1_hiera_tiny.pt")
    with pytest.raises(InputError, match=r"1 missing \(no_obj_ptr\)"):
        load_weights("sam2.1-hiera-tiny")


@pytest.mark.parametrize("preset", ["stock", "fast"])
def test_an_official_model_at_another_image_size_is_the_model_built_for_it(tmp_path, monkeypatch, preset):
    with seeded(0):
        built = build_official("sam2.1-hiera-tiny", image_size=96)
    torch.nn.init.ones_(built.sam_mask_decoder.pred_obj_score_head.layers[-1].bias)
    torch.save({"model": built.state_dict()}, tmp_path / "sam2.1_hiera_tiny.pt")
    monkeypatch.setenv("SYNTHFM_WEIGHTS", str(tmp_path))
    image = np.random.default_rng(1).integers(0, 256, (3, 80, 70), dtype=np.uint8)
    reference = SAM2Segmenter("built", built, torch.device("cpu"), exact=preset == "stock")
    resized = make_segmenter("sam2.1-hiera-tiny", "cpu", preset, {"image_size": 96})
    assert resized.frames(image).shape == (3, 3, 96, 96)
    logits = []
    for segmenter in (reference, resized):
        with segmenter.start(image, (1.0, 1.0, 1.0)) as session:
            session.add(Click((1, 40, 30)))
            logits.append(session.add(Click((2, 10, 50), False)).logits)
    assert logits[0].shape[1:] == (24, 24)
    assert logits[0].std() > 0.01
    np.testing.assert_array_equal(*logits)


def test_without_hub_the_message_names_the_file_and_where_to_place_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHFM_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"sam2\.1_hiera_large\.pt at .*sam2\.1_hiera_large\.pt"):
        make_segmenter("sam2.1-hiera-large")


def test_every_official_model_is_listed():
    assert set(OFFICIAL) == {name for name in list_segmenters() if name.startswith("sam2")}


def test_an_unknown_segmenter_has_near_matches():
    with pytest.raises(InputError, match="did you mean geodesic"):
        make_segmenter("geodesik")


def test_an_unknown_device_is_named():
    with pytest.raises(InputError, match="quantum"):
        pick_device("quantum")


def test_the_embedded_file_is_small_and_half_precision_leaves_the_masks():
    path = weights_path("synthfm3d-nano")
    assert path.stat().st_size <= 16 * 2**20
    assert "not Meta's weights" in list_segmenters()["synthfm3d-nano"]
    image = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
    image[:, 10:30, 10:30] //= 3
    prediction = make_segmenter("synthfm3d-nano", device="cpu").start(image, (1.0, 1.0, 1.0)).add(Click((2, 20, 20)))
    assert prediction.mask[2, 20, 20]
    assert not prediction.mask[2, 2, 2]
