"""Computes SAM 2's memory attention for a batch of slices, with the keys and values of each memory computed once.

A slice attends to its memory bank: the memories of conditioning slices, those of the six slices tracked before it, and
the object pointers of both, in this order. Stock SAM 2 projects the whole bank to keys and values again for every slice
and layer. A memory is in many banks, and its age (how many slices before) differs between them, so its keys differ by a
temporal position encoding::

    keys = rotate(W (memory + spatial position + temporal position(age)))
         = rotate(W (memory + spatial position)) + rotate(W temporal position(age))

Projection W and rotation are linear. So the first term is computed once for each memory and all layers, the second once
for each age, and a bank is their sum.

Values have no position, and the weights of attention sum to 1. So values are projected after they are averaged: the
mean is taken over memories as they are, which have fewer channels than values and serve all layers. The projections of
values and of the output are one matrix.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import get_1d_sine_pe, select_closest_cond_frames
from torch import Tensor

from synthfm_env.segmenters.sam2.fast.onednn import (
    FusedLinear,
    apply_linear,
    apply_norm,
    attention,
    key_padding,
    linear,
    linear_activation,
)
from synthfm_env.segmenters.sam2.options import MemoryPolicy
from synthfm_env.segmenters.sam2.slice_memory import SliceMemory, SliceStep

_NEAREST = 4  # the policy "nearest" attends to so many conditioning slices
_CONFIDENT_REACH = 16  # the policy "confident" chooses among so many slices tracked before
_CACHED_MEMORIES = 16  # memories for each sweep whose keys and values are cached


class _KeysValues(NamedTuple):
    """Keys (layers, heads, tokens, channels), and values before projection: the tokens themselves, (tokens, C)."""

    keys: Tensor
    values: Tensor


class _Bank(NamedTuple):
    """Keys and values that one slice attends to, as ``_KeysValues``. Tokens from index ``real`` on are padding."""

    keys: Tensor
    values: Tensor
    real: int


class FastMemoryAttention:
    """Memory attention for a batch of slices of different sweeps. Each slice attends to its own memory bank.

    It equals ``SAM2Base._prepare_memory_conditioned_features`` up to the order of sums.
    """

    def __init__(self, model: SAM2Base, policy: MemoryPolicy, dtype: torch.dtype) -> None:
        """Fuse weights and project position encodings, which are the same for all slices.

        Args:
            model: its weights are used.
            policy: the choice of memories; see ``EngineOptions.memory``.
            dtype: of queries, keys and values.
        """
        self._model, self._policy, self._dtype = model, policy, dtype
        self._layers = list(model.memory_attention.layers)
        self._crosses = [layer.cross_attn_image for layer in self._layers]
        self._tokens = model.sam_image_embedding_size**2
        self._project_positions()
        # Caches for the time of one click. Memories compare by identity, so a memory is its own cache key.
        self._memories: OrderedDict[SliceMemory, _KeysValues] = OrderedDict()
        self._conditioning: dict[tuple[SliceMemory, ...], _KeysValues] = {}
        self._capacity = _CACHED_MEMORIES
        self._distances: dict[tuple[int, int], Tensor] = {}  # constant, so kept between clicks

    def forget(self) -> None:
        """Drop the keys and values of all memories."""
        self._memories.clear()
        self._conditioning.clear()

    def __call__(self, coarse: Tensor, steps: Sequence[SliceStep]) -> Tensor:
        """Condition slices on their memories.

        Args:
            coarse: (B, C, h, w), the slices' features at stride 16.
            steps: B slices, with the states that hold their memories.

        Returns:
            (B, h * w, C).
        """
        module = self._model.memory_attention
        x = coarse.flatten(2).transpose(1, 2)
        if module.pos_enc_at_input:
            x = x + 0.1 * self._position
        self._capacity = _CACHED_MEMORIES * len(steps)
        banks = [self._bank(step) for step in steps]
        for i, layer in enumerate(self._layers):
            # Self-attention within each slice.
            own, cross = layer.self_attn, layer.cross_attn_image
            qkv = self._self_qkv[i](apply_norm(layer.norm1, x))
            q, k, v = (own._separate_heads(part, own.num_heads) for part in qkv)
            q, k = self._rotate(q, self._self_rotation_scaled), self._rotate(k, self._self_rotation)
            v = v.to(self._dtype)
            attended = [attention(*each, self._tokens) for each in zip(q, k, v, strict=True)]
            x = x + apply_linear(own.out_proj, _recombine_heads(own, attended))
            # Cross-attention to the memory bank, slice by slice, because banks differ in length.
            (projected,) = self._cross_q[i](apply_norm(layer.norm2, x))
            q = self._rotate(cross._separate_heads(projected, cross.num_heads), self._cross_rotation_scaled)
            attended = [
                attention(each, bank.keys[i], bank.values.expand(len(each), -1, -1), bank.real)
                for each, bank in zip(q, banks, strict=True)
            ]
            x = x + linear(_recombine_heads(cross, attended), *self._cross_values[i])
            # Feed-forward.
            hidden = linear_activation(layer.linear1, layer.activation, apply_norm(layer.norm3, x))
            x = x + apply_linear(layer.linear2, hidden)
        return apply_norm(module.norm, x)

    @torch.no_grad()
    def _project_positions(self) -> None:
        """Project spatial and temporal position encodings to queries and keys, and fuse projections of one input."""
        model, layers, crosses = self._model, self._layers, self._crosses
        side, device = model.sam_image_embedding_size, model.device
        blank = torch.zeros(1, model.hidden_dim, side, side, device=device)
        self._position = model.image_encoder.neck.position_encoding(blank).flatten(2).transpose(1, 2)
        memory_position = model.memory_encoder.position_encoding(blank[:, : model.mem_dim]).flatten(2).transpose(1, 2)
        # Rotations of rotary attention. Those of queries include the softmax's scale.
        self._self_rotation, self._cross_rotation = (
            each.compute_cis(end_x=side, end_y=side).to(device) for each in (layers[0].self_attn, crosses[0])
        )
        self._self_rotation_scaled, self._cross_rotation_scaled = (
            rotation * (2 * rotation.shape[-1]) ** -0.5 for rotation in (self._self_rotation, self._cross_rotation)
        )
        # Projections of slices: queries, keys and values of self-attention; queries of cross-attention.
        self._self_qkv, self._cross_q = [], []
        for layer in layers:
            at = self._position if layer.pos_enc_at_attn else None
            own = layer.self_attn
            self._self_qkv.append(FusedLinear([(own.q_proj, at), (own.k_proj, at), (own.v_proj, None)]))
            at = self._position if layer.pos_enc_at_cross_attn_queries else None
            self._cross_q.append(FusedLinear([(layer.cross_attn_image.q_proj, at)]))
        # Projections of memories and of pointers to the keys of all layers; of attended memories to the output.
        with_position = layers[0].pos_enc_at_cross_attn_keys
        at = memory_position if with_position else None
        self._project_memory = FusedLinear([(cross.k_proj, at) for cross in crosses])
        self._project_pointers = FusedLinear([(cross.k_proj, None) for cross in crosses])
        self._cross_values = [_values_to_output(cross) for cross in crosses]
        # Projected temporal positions by age: (ages, layers, heads, tokens, channels). Conditioning slices use the
        # last.
        self._key_weight = torch.stack([cross.k_proj.weight for cross in crosses]) * float(with_position)
        ages = torch.einsum("lcm,am->alc", self._key_weight, model.maskmem_tpos_enc[:, 0, 0])
        ages = ages[:, :, None].expand(-1, -1, self._tokens, -1)
        heads = crosses[0].num_heads
        self._ages = [self._rotate(crosses[0]._separate_heads(age, heads), self._cross_rotation) for age in ages]

    def _rotate(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Apply the rotary position encoding to queries or keys (..., tokens, channels)."""
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * rotation).flatten(-2).to(self._dtype)

    def _bank(self, step: SliceStep) -> _Bank:
        """Return the memory bank of a slice."""
        behind = 1 if step.reverse else -1  # the direction of slices that were tracked before
        # 1. Conditioning slices, the nearest ones if there are too many.
        most = _NEAREST if self._policy == "nearest" else self._model.max_cond_frames_in_attn
        chosen, passed_over = select_closest_cond_frames(step.z, step.state.conditioning, most)
        parts = [self._of_conditioning(chosen)]
        # 2. Slices tracked before, with their ages.
        for age, memory in self._recent(step, behind, passed_over):
            keys, values = self._of_memory(memory)
            parts.append(_KeysValues(keys + self._ages[age - 1], values))
        # 3. Object pointers.
        if self._model.use_obj_ptrs_in_encoder:
            parts += self._of_pointers(step, behind, chosen, passed_over)
        # Padding, so that few different shapes occur.
        count = sum(keys.shape[2] for keys, _ in parts)
        keys, values = parts[0]
        padding = key_padding(count, keys)
        if padding:
            zero = keys.new_zeros(1)
            parts.append(
                _KeysValues(zero.expand(*keys.shape[:2], padding, keys.shape[3]), zero.expand(padding, values.shape[1]))
            )
        return _Bank(*_concatenated(parts), count)

    def _recent(
        self, step: SliceStep, behind: int, passed_over: dict[int, SliceMemory]
    ) -> list[tuple[int, SliceMemory]]:
        """Return the memories of slices tracked before, each with its age: 1 for the newest, at most 6."""
        places = self._model.num_maskmem - 1
        reach = _CONFIDENT_REACH if self._policy == "confident" else places
        memories = [(away, _memory_at(step, step.z + behind * away, passed_over)) for away in range(1, reach + 1)]
        present = [(away, memory) for away, memory in memories if memory is not None]
        if self._policy != "confident":
            return present
        # "confident": the six with the highest estimated IoU of the last sixteen; their order gives the ages.
        best = sorted(present, key=lambda item: -(0.0 if item[1].iou is None else item[1].iou))[:places]
        return [(age, memory) for age, (_, memory) in enumerate(sorted(best, key=lambda item: item[0]), 1)]

    def _of_memory(self, memory: SliceMemory) -> _KeysValues:
        """Return the keys and values of a memory without its temporal position, from the cache if possible."""
        if memory in self._memories:
            self._memories.move_to_end(memory)
            return self._memories[memory]
        tokens = memory.features.float().flatten(2).transpose(1, 2)
        keys = self._rotate(self._by_layer(self._project_memory(tokens)), self._cross_rotation)
        pair = _KeysValues(keys, tokens[0].to(self._dtype).contiguous())
        self._memories[memory] = pair
        if len(self._memories) > self._capacity:
            self._memories.popitem(last=False)
        return pair

    def _by_layer(self, products: Sequence[Tensor]) -> Tensor:
        """Stack the keys (1, tokens, C) of all layers, and separate their heads."""
        keys: Tensor = self._crosses[0]._separate_heads(torch.cat(tuple(products)), self._crosses[0].num_heads)
        return keys

    def _of_conditioning(self, chosen: dict[int, SliceMemory]) -> _KeysValues:
        """Return the keys and values of conditioning slices, with their temporal position; computed once a click."""
        memories = tuple(chosen.values())
        if memories not in self._conditioning:
            pairs = [self._of_memory(memory) for memory in memories]
            self._conditioning[memories] = _concatenated(
                [_KeysValues(keys + self._ages[-1], values) for keys, values in pairs]
            )
        return self._conditioning[memories]

    def _of_pointers(
        self, step: SliceStep, behind: int, chosen: dict[int, SliceMemory], passed_over: dict[int, SliceMemory]
    ) -> list[_KeysValues]:
        """Return the keys and values of object pointers, of conditioning slices and of slices tracked before."""
        model, z = self._model, step.z
        most = min(step.features.depth, model.max_obj_ptrs_in_encoder)
        # Pointers of conditioning slices, with their distance: negative for slices ahead.
        distances = {t: (t - z) * behind for t in chosen}
        if model.only_obj_ptrs_in_the_past_for_eval:
            distances = {t: distance for t, distance in distances.items() if distance >= 0}
        signed = model.use_signed_tpos_enc_to_obj_ptrs
        pointers = [(distance if signed else abs(distance), chosen[t]) for t, distance in distances.items()]
        # Pointers of slices tracked before.
        memories = [(distance, _memory_at(step, z + behind * distance, passed_over)) for distance in range(1, most)]
        pointers += [(distance, memory) for distance, memory in memories if memory is not None]
        if not pointers:
            return []
        # A pointer is wider than a memory token, so it is split into several tokens, which share its distance.
        split = model.hidden_dim // model.mem_dim
        tokens = torch.cat([memory.pointer for _, memory in pointers]).reshape(1, -1, model.mem_dim)
        keys = self._by_layer(self._project_pointers(tokens))
        added = torch.cat([self._of_distance(distance, most - 1) for distance, _ in pointers], 2)
        return [_KeysValues((keys + added.repeat_interleave(split, 2)).to(self._dtype), tokens[0].to(self._dtype))]

    def _of_distance(self, distance: int, most: int) -> Tensor:
        """Return the projected temporal position of a pointer at a distance in slices: (layers, heads, 1, channels)."""
        model = self._model
        if (distance, most) not in self._distances:
            weight = model.maskmem_tpos_enc
            place = weight.new_zeros(1, model.mem_dim)
            if model.add_tpos_enc_to_obj_ptrs:
                width = model.hidden_dim if model.proj_tpos_enc_in_obj_ptrs else model.mem_dim
                place = model.obj_ptr_tpos_proj(get_1d_sine_pe(weight.new_tensor([distance / most]), dim=width))
            keys = place.float() @ self._key_weight.transpose(1, 2)
            self._distances[distance, most] = self._crosses[0]._separate_heads(keys, self._crosses[0].num_heads)
        return self._distances[distance, most]


def _concatenated(parts: Sequence[_KeysValues]) -> _KeysValues:
    return _KeysValues(torch.cat([keys for keys, _ in parts], 2), torch.cat([values for _, values in parts]))


def _values_to_output(module: RoPEAttention) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the projection of values followed by that of the output, for all heads side by side."""
    out, values = module.out_proj, module.v_proj
    heads = zip(out.weight.chunk(module.num_heads, 1), values.weight.chunk(module.num_heads, 0), strict=True)
    return torch.cat([after @ before for after, before in heads], 1), out.weight @ values.bias + out.bias


def _recombine_heads(module: RoPEAttention, attended: list[Tensor]) -> Tensor:
    """Return what the heads of each slice attended to, side by side: (B, tokens, heads * C)."""
    recombined: Tensor = module._recombine_heads(torch.stack(attended))
    return recombined


def _memory_at(step: SliceStep, z: int, passed_over: dict[int, SliceMemory]) -> SliceMemory | None:
    return step.state.tracked.get(z) or passed_over.get(z)
