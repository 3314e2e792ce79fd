"""Builds SAM 2 of any width from the classes of the ``sam2`` package."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Annotated, Literal, Self

import torch
from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_video_predictor import SAM2VideoPredictor

from synthfm_env.segmenters.sam2.convolutional_trunk import ConvolutionalTrunk
from synthfm_env.segmenters.sam2.options import MOST_PIXELS, PATCH


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the initialisation of modules that are built in the block.

    torch initialises modules from its global generator only, so its state is restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


_Blocks = Annotated[int, Field(ge=1, le=96)]
_Window = Annotated[int, Field(ge=1, le=256)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Architecture:
    """The sizes of one SAM 2; the defaults are those of ``synthfm3d-nano``.

    Attributes:
        image_size: pixels along each side of the square that the encoder is fed; a multiple of ``frame_step``.
        embed_dim: channels of the first of the trunk's four stages; they double at each.
        stages: blocks in each stage.
        global_att_blocks: blocks that attend over the whole slice; none may open a stage.
        window_spec: attention window of each stage, in tokens; the first three are even, because the first block of
            the next stage halves them.
        d_model: channels of the decoder; a multiple of ``mem_dim``.
        mem_dim: channels of a memory; even.
        memory_layers: layers of memory attention.
        feedforward: hidden width in memory attention.
        num_maskmem: slices in the memory bank, the clicked ones not counted beyond one.
        trunk: of the image encoder: SAM 2's Hiera, or ConvNeXt blocks, which have no windows and no global attention.
    """

    image_size: Annotated[int, Field(ge=PATCH, le=MOST_PIXELS, multiple_of=PATCH)] = 128
    embed_dim: Annotated[int, Field(ge=8, le=512)] = 40
    stages: tuple[_Blocks, _Blocks, _Blocks, _Blocks] = (1, 2, 4, 2)
    global_att_blocks: tuple[int, ...] = (5, 8)
    window_spec: tuple[_Window, _Window, _Window, _Window] = (8, 4, 8, 4)
    d_model: Annotated[int, Field(ge=16, le=2048, multiple_of=16)] = 128
    mem_dim: Annotated[int, Field(ge=8, le=1024)] = 32
    memory_layers: Annotated[int, Field(ge=1, le=64)] = 2
    feedforward: Annotated[int, Field(ge=16, le=16384)] = 512
    num_maskmem: Annotated[int, Field(ge=1, le=64)] = 7
    trunk: Literal["hiera", "convolutional"] = "hiera"

    @property
    def frame_step(self) -> int:
        """Sides of frames are multiples of it: the first window, of four pixels a token, tiles them."""
        return 4 * self.window_spec[0]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for window in self.window_spec[:3]:
            if window % 2:
                raise ValueError(f"window_spec: expected even windows in the first three stages, got {window}")
        for opening in list(accumulate(self.stages))[:3]:
            if opening in self.global_att_blocks:
                raise ValueError(f"global_att_blocks: block {opening} opens a stage of {self.stages}; name another one")
        if self.image_size % self.frame_step:
            raise ValueError(
                f"image_size {self.image_size} is no multiple of {self.frame_step}, four times the first of window_spec"
            )
        if self.mem_dim % 2 or self.d_model % self.mem_dim:
            raise ValueError(f"mem_dim: expected an even divisor of d_model {self.d_model}, got {self.mem_dim}")
        return self

    def to_json(self) -> str:
        """Return the fields as JSON, for the header of a weights file."""
        return _PLAIN.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Read what ``to_json`` wrote; raises pydantic's ValidationError on anything else."""
        return _PLAIN.validate_json(text)


_PLAIN = TypeAdapter(Architecture)


def _encoder(a: Architecture) -> ImageEncoder:
    trunk: Hiera | ConvolutionalTrunk
    if a.trunk == "convolutional":
        trunk = ConvolutionalTrunk(a.embed_dim, a.stages)
    else:
        trunk = Hiera(
            embed_dim=a.embed_dim,
            num_heads=1,
            stages=a.stages,
            global_att_blocks=a.global_att_blocks,
            window_pos_embed_bkg_spatial_size=(7, 7),
            window_spec=a.window_spec,
        )
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(num_pos_feats=a.d_model, normalize=True, temperature=10000),
        d_model=a.d_model,
        backbone_channel_list=trunk.channel_list,
        # Official SAM 2 stops the top-down path at stride 16. Running it down to stride 4 gives the few blocks
        # of a small trunk some context where the mask is drawn.
        fpn_top_down_levels=[0, 1, 2, 3],
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def _memory_attention(a: Architecture) -> MemoryAttention:
    tokens = a.image_size // 16
    rope = {
        "rope_theta": 10000.0,
        "feat_sizes": (tokens, tokens),
        "embedding_dim": a.d_model,
        "num_heads": 1,
        "downsample_rate": 1,
        "dropout": 0.0,
    }
    layer = MemoryAttentionLayer(
        activation="relu",
        dim_feedforward=a.feedforward,
        dropout=0.0,
        pos_enc_at_attn=False,
        self_attention=RoPEAttention(**rope),
        d_model=a.d_model,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=RoPEAttention(rope_k_repeat=True, kv_in_dim=a.mem_dim, **rope),
    )
    return MemoryAttention(d_model=a.d_model, pos_enc_at_input=True, layer=layer, num_layers=a.memory_layers)


def _memory_encoder(a: Architecture) -> MemoryEncoder:
    return MemoryEncoder(
        in_dim=a.d_model,
        out_dim=a.mem_dim,
        position_encoding=PositionEmbeddingSine(num_pos_feats=a.mem_dim, normalize=True, temperature=10000),
        mask_downsampler=MaskDownSampler(embed_dim=a.d_model, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(
            CXBlock(dim=a.d_model, kernel_size=7, padding=3, layer_scale_init_value=1e-6, use_dwconv=True),
            num_layers=2,
        ),
    )


def build_model(a: Architecture) -> SAM2VideoPredictor:
    """Return a SAM 2 of the given sizes, randomly initialised, in evaluation mode.

    Differences from Meta's configurations, apart from the sizes: one mask is predicted instead of three (the choice
    among three needs an IoU head trained for long), and no dropout. ``add_all_frames_to_correct_as_cond`` is on,
    because without it the next propagation throws correction clicks away (facebookresearch/sam2 issue 731).
    """
    model = SAM2VideoPredictor(
        add_all_frames_to_correct_as_cond=True,
        fill_hole_area=0,
        image_encoder=_encoder(a),
        memory_attention=_memory_attention(a),
        memory_encoder=_memory_encoder(a),
        num_maskmem=a.num_maskmem,
        image_size=a.image_size,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        no_obj_embed_spatial=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=False,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=True,
        proj_tpos_enc_in_obj_ptrs=True,
        use_signed_tpos_enc_to_obj_ptrs=True,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        use_mlp_for_obj_ptr_proj=True,
    )
    return model.eval()


def set_image_size(model: SAM2Base, size: int) -> None:
    """Set the side of the frames that a model takes, in pixels: no parameter depends on it, only a few cached sizes."""
    tokens = size // model.backbone_stride
    model.image_size = size
    model.sam_image_embedding_size = tokens
    prompts = model.sam_prompt_encoder
    prompts.image_embedding_size = (tokens, tokens)
    prompts.input_image_size = (size, size)
    prompts.mask_input_size = (4 * tokens, 4 * tokens)
