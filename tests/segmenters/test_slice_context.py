"""Neighbouring slices as input of SAM 2's image encoder, and a convolutional trunk, in training form and in use."""

import numpy as np
import pytest
import torch

from synthfm_env import Click, make_segmenter
from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import Architecture, SAM2Segmenter, build_model, load_weights, seeded
from synthfm_env.segmenters.sam2.convolutional_trunk import ConvolutionalTrunk
from synthfm_env.segmenters.sam2.fast.image_encoder import FastImageEncoder
from synthfm_env.segmenters.sam2.slice_context import DepthAdapter, SliceContext, add_context
from synthfm_env.segmenters.sam2.tracking.feature_cache import FeatureCache
from synthfm_env.segmenters.stopwatch import Stopwatch
from synthfm_train.checkpoint import save_weights

SIZES = {
    "image_size": 32,
    "embed_dim": 16,
    "stages": (1, 1, 2, 1),
    "global_att_blocks": (3,),
    "window_spec": (4, 4, 2, 2),
    "d_model": 32,
    "mem_dim": 16,
}
CONTEXTS = [SliceContext(neighbours=True), SliceContext(adapter=4)]


def model_with(context=SliceContext(), **sizes):  # noqa: B008 - frozen
    with seeded(0):
        model = build_model(Architecture(**{**SIZES, **sizes}))
        add_context(model, context)
        for name, parameter in model.named_parameters():
            if "adapters" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def stack(count, seed=1):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_neighbours_take_the_first_and_third_channel():
    encoder = model_with(SliceContext(neighbours=True)).image_encoder
    frames = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(1, 4, 3, 2, 2)
    assert encoder.mix(frames)[0, :, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_an_adapter_is_the_convolution_of_its_formula():
    torch.manual_seed(0)
    adapter = DepthAdapter(5, 3)
    torch.nn.init.normal_(adapter.up.weight)
    maps = torch.randn(1, 5, 4, 6, 6)
    down = torch.einsum("ac,bcthw->bathw", adapter.down.weight[:, :, 0, 0, 0], maps) + adapter.down.bias.view(
        1, 3, 1, 1, 1
    )
    z, y, x = 2, 3, 1
    around = down[0, :, z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
    middle = (around * adapter.depthwise.weight[:, 0]).sum((1, 2, 3)) + adapter.depthwise.bias
    added = adapter.up.weight[:, :, 0, 0, 0] @ torch.nn.functional.gelu(middle) + adapter.up.bias
    assert torch.allclose(adapter(maps)[0, :, z, y, x], maps[0, :, z, y, x] + added, atol=1e-5)


def test_new_adapters_change_nothing():
    plain = model_with()
    adapted = model_with()
    add_context(adapted, SliceContext(adapter=8))
    frames = stack(3)
    for a, b in zip(
        plain.forward_image(frames)["backbone_fpn"], adapted.forward_image(frames)["backbone_fpn"], strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("context", CONTEXTS)
def test_clips_of_a_batch_do_not_see_each_other(context):
    encoder = model_with(context).image_encoder
    first, second = stack(3, 1), stack(3, 2)
    together = encoder(torch.stack((first, second)))["backbone_fpn"]
    for level, a, b in zip(together, encoder(first)["backbone_fpn"], encoder(second)["backbone_fpn"], strict=True):
        assert torch.allclose(level, torch.cat((a, b)), atol=1e-5)


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_slice_depends_on_its_neighbours_and_on_no_other(context):
    encoder = model_with(context).image_encoder
    frames = stack(6)
    before = encoder(frames)["backbone_fpn"][-1]
    frames[3] += 1
    moved = [not torch.equal(a, b) for a, b in zip(before, encoder(frames)["backbone_fpn"][-1], strict=True)]
    assert moved == [False, False, True, True, True, False]


@pytest.mark.parametrize("context", CONTEXTS)
def test_batches_of_the_cache_give_the_maps_of_the_whole_stack(context):
    model = model_with(context)
    image = np.random.default_rng(0).integers(0, 256, (10, 32, 32), dtype=np.uint8)

    def encode(slices):
        frames = torch.from_numpy(slices)[:, None].float().expand(-1, 3, -1, -1) / 255
        with torch.no_grad():
            return model.image_encoder(frames)["backbone_fpn"]

    whole = encode(image)
    cache = FeatureCache(image, encode, 1 << 30, Stopwatch(), reach=1)
    for z in (9, 0, 4, 3, 8, 5):
        for level, of_stack in zip(cache.maps(z), whole, strict=True):
            assert torch.allclose(level[0], of_stack[z], atol=1e-5)


@pytest.mark.parametrize(
    "model", [model_with(context) for context in CONTEXTS] + [model_with(trunk="convolutional")], ids=str.__class__
)
def test_the_fast_encoder_gives_the_maps_of_the_models_own(model):
    frames = stack(3)
    with torch.no_grad():
        expected = model.forward_image(frames)["backbone_fpn"]
        for fast, stock in zip(FastImageEncoder(model)(frames), expected, strict=True):
            assert torch.allclose(fast, stock, atol=1e-4)


def test_a_convolutional_trunk_has_hieras_strides_and_channels():
    trunk = ConvolutionalTrunk(8, (1, 1, 1, 1))
    assert [tuple(level.shape[1:]) for level in trunk(torch.zeros(1, 3, 64, 64))] == [
        (8, 16, 16),
        (16, 8, 8),
        (32, 4, 4),
        (64, 2, 2),
    ]
    assert trunk.channel_list == [64, 32, 16, 8]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("trunk", ["hiera", "convolutional"])
def test_written_weights_load_strictly_and_give_the_same_masks(tmp_path, context, trunk):
    model, path = model_with(context, trunk=trunk).half().float(), tmp_path / "weights.safetensors"
    save_weights(model.state_dict(), Architecture(**SIZES, trunk=trunk), 32, path, context.header())
    loaded = make_segmenter(str(path), preset="fast", device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (6, 40, 40), dtype=np.uint8)
    masks = []
    for segmenter in (SAM2Segmenter("here", model, torch.device("cpu")), loaded):
        with segmenter.start(image, (1.0, 1.0, 1.0)) as session:
            masks.append(session.add(Click((3, 20, 20))).mask)
    assert np.array_equal(*masks)
    # Without its context in the header, the file is refused.
    save_weights(model.state_dict(), Architecture(**SIZES, trunk=trunk), 32, path, {})
    if context.adapter:
        with pytest.raises(InputError, match=r"unexpected .image_encoder\.adapters"):
            load_weights(str(path))


@pytest.mark.parametrize(
    "header", [{"depth_adapter": "-1"}, {"depth_adapter": "9999999"}, {"neighbours": "yes"}, {"depth_adapter": "x"}]
)
def test_a_header_with_other_values_is_refused(header):
    with pytest.raises(InputError, match="header states"):
        SliceContext.from_header(header)


def test_both_ways_at_once_are_refused():
    with pytest.raises(InputError, match="choose one"):
        SliceContext(neighbours=True, adapter=4)
