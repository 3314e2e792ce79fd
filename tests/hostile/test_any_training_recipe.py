"""Any value in any field of a recipe of training: read, or refused in one line; what is read can be built."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from refusals import result_or_refusal

from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import Architecture, build_model
from synthfm_env.segmenters.volume_network.network import NetworkArchitecture, VolumeNetwork
from synthfm_train.checkpoint import load_checkpoint
from synthfm_train.run import load_any_recipe
from synthfm_train.sam2.build import architecture_of
from synthfm_train.sam2.recipe import Data, Phase, TrainingRecipe, load_recipe
from synthfm_train.volume_network.recipe import GridPhase, NetworkRecipe, VolumeData

numbers = st.integers(-3, 300) | st.sampled_from([10**9, 10**30, -(10**30)]) | st.floats() | st.booleans()
values = st.recursive(
    numbers | st.text(max_size=6) | st.sampled_from(["any", "random", "geodesic", "synthfm3d-nano"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
PLACES = [
    *(("synthfm3d-nano", key) for key in TrainingRecipe.model_fields),
    *(("synthfm3d-nano", f"data.{key}") for key in Data.model_fields),
    *(("synthfm3d-nano", f"phases.0.{key}") for key in Phase.model_fields),
    *(("synthfm3d-nano", f"architecture.{key}") for key in Architecture.__dataclass_fields__),
    *(("synthfm3d-unet", key) for key in NetworkRecipe.model_fields),
    *(("synthfm3d-unet", f"data.{key}") for key in VolumeData.model_fields),
    *(("synthfm3d-unet", f"phases.0.{key}") for key in GridPhase.model_fields),
]


def as_toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


@given(place=st.sampled_from(PLACES), value=values)
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_place_is_read_or_refused_in_one_line(place, value):
    recipe, key = place
    result_or_refusal(load_any_recipe, recipe, (f"{key}={as_toml(value)}",))


windows = st.sampled_from([1, 2, 3, 4, 7, 8, 14, 16])
architectures = st.fixed_dictionaries(
    {},
    optional={
        "image_size": st.sampled_from([32, 64, 96]),
        "stages": st.tuples(*[st.integers(1, 2)] * 4),
        "global_att_blocks": st.lists(st.integers(-1, 8), max_size=3).map(tuple),
        "window_spec": st.tuples(windows, windows, windows, windows),
        "d_model": st.sampled_from([16, 32, 48, 80]),
        "mem_dim": st.sampled_from([8, 9, 10, 16, 24, 40]),
    },
)


@given(sizes=architectures)
@settings(max_examples=60, deadline=None)
def test_an_accepted_architecture_encodes_an_image_and_a_mask(sizes):
    try:
        architecture = Architecture(**{"image_size": 64, "embed_dim": 8, "memory_layers": 1} | sizes)
    except ValidationError:
        return
    model = build_model(architecture)
    side = architecture.image_size
    with torch.inference_mode():
        features = model.forward_image(torch.zeros(1, 3, side, side))["vision_features"]
        memory = model.memory_encoder(features, torch.zeros(1, 1, side, side))
    assert memory["vision_features"].shape == (1, architecture.mem_dim, side // 16, side // 16)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("architecture={stages=[1,1,3,1]}", "block 5 opens a stage"),
        ("architecture={window_spec=[8,5,8,4]}", "window_spec: expected even windows in the first three stages, got 5"),
        ("architecture={window_spec=[6,4,8,4]}", "image_size 128 is no multiple of 24"),
        ("architecture={window_spec=[14,4,8,4],image_size=224}", "phases.6.image_size 192"),
        ("architecture={mem_dim=24}", "mem_dim: expected an even divisor of d_model 128, got 24"),
        ("data.zoom=[0.9,0.1]", "zoom"),
        ("data.zoom=[0.0,2.0]", "zoom"),
        ("seed=1000000000000000000000000000000", "seed"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(override, message):
    with pytest.raises(InputError, match=message.replace("[", r"\[")) as error:
        architecture_of(load_recipe("synthfm3d-nano", (override,)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("synthfm3d-unet", "widths=[0,0]", "widths"),
        ("synthfm3d-unet", "widths=[-8,8]", "widths"),
        ("synthfm3d-unet", "widths=[80000000,8]", "widths"),
        ("synthfm3d-unet", "phases.0.grid=[0,0,0]", "grid"),
        ("synthfm3d-unet", "phases.0.grid=[800000,800000,800000]", "grid"),
        ("synthfm3d-unet", "seed=1000000000000000000000000000000", "seed"),
    ],
)
def test_sizes_that_cannot_be_are_refused(recipe, override, message):
    with pytest.raises(InputError, match=message):
        load_any_recipe(recipe, (override,))


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_checkpoint_that_is_none_is_refused_without_a_warning(tmp_path, recwarn, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match="is damaged, or holds more than tensors and plain data"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert len(recwarn) == 0


@given(widths=st.lists(st.sampled_from([8, 16, 24]), min_size=2, max_size=4), dimensions=st.sampled_from([2, 3]))
@settings(max_examples=10, deadline=None)
def test_accepted_widths_give_a_network(widths, dimensions):
    VolumeNetwork(NetworkArchitecture(dimensions, tuple(widths)))
