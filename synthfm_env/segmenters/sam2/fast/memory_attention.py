"""Memory attention for several slices at once, over keys and values that are computed once a click."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import get_1d_sine_pe, select_closest_cond_frames
from torch import Tensor

from synthfm_env.segmenters.sam2.fast.onednn import Joined, activated, attend, filling, normed, through
from synthfm_env.segmenters.sam2.slice_memory import Output
from synthfm_env.segmenters.sam2.tracking.propagation import Slot

Memory = Literal["all", "nearest", "confident"]

_NEAREST = 4  # clicked slices that condition under "nearest"
_REACH = 16  # slices back among which "confident" chooses
_KEPT = 16  # slices a chain whose keys and values are kept


class _Pair(NamedTuple):
    """Keys and values of some tokens, (layers, heads, tokens, channels)."""

    keys: Tensor
    values: Tensor


class _Bank(NamedTuple):
    """Keys and values that a slice attends to; those from ``real`` on only fill up to a round number."""

    keys: Tensor
    values: Tensor
    real: int


class Recall:
    """What SAM 2's memory attention makes of slices, each with the memories of its own slot.

    The same sums as ``SAM2Base._prepare_memory_conditioned_features``, in another order: a memory's keys and values
    are projected once, for all layers together, not again for each slice that attends to it, and spatial and temporal
    positions are added to projected keys (projection and rotation are linear).
    """

    def __init__(self, model: SAM2Base, memory: Memory, dtype: torch.dtype) -> None:
        """Prepare what does not depend on slices.

        Args:
            model: whose weights are used.
            memory: which slices are attended to; see ``SAM2Segmenter``.
            dtype: of queries, keys and values.
        """
        self._model, self._memory = model, memory
        self._layers = list(model.memory_attention.layers)
        self._crosses = [layer.cross_attn_image for layer in self._layers]
        self._tokens = model.sam_image_embedding_size**2
        self._dtype = dtype
        self._prepare()
        self._pairs: OrderedDict[int, tuple[Output, _Pair]] = OrderedDict()
        self._joined: dict[tuple[int, ...], _Pair] = {}
        self._places: dict[tuple[int, int], Tensor] = {}
        self._kept = _KEPT

    def forget(self) -> None:
        """Drop all keys and values."""
        self._pairs.clear()
        self._joined.clear()

    def __call__(self, coarse: Tensor, slots: Sequence[Slot]) -> Tensor:
        """Attend from the next slice of each slot.

        Args:
            coarse: (B, C, h, w), a slice's features each.
            slots: B of them.

        Returns:
            (B, h * w, C), conditioned on memory.
        """
        attention = self._model.memory_attention
        x = coarse.flatten(2).transpose(1, 2)
        if attention.pos_enc_at_input:
            x = x + 0.1 * self._position
        self._kept = _KEPT * len(slots)
        banks = [self._bank(slot) for slot in slots]
        for i, layer in enumerate(self._layers):
            own, cross = layer.self_attn, layer.cross_attn_image
            q, k, v = (own._separate_heads(part, own.num_heads) for part in self._owns[i](normed(layer.norm1, x)))
            q, k, v = self._turn(q, self._own_scaled), self._turn(k, self._own_turns), v.to(self._dtype)
            x = x + _gather(own, [attend(*each, self._tokens) for each in zip(q, k, v, strict=True)])
            (asked,) = self._asked[i](normed(layer.norm2, x))
            queries = self._turn(cross._separate_heads(asked, cross.num_heads), self._scaled)
            found = [attend(q, bank.keys[i], bank.values[i], bank.real) for q, bank in zip(queries, banks, strict=True)]
            x = x + _gather(cross, found)
            x = x + through(layer.linear2, activated(layer.linear1, layer.activation, normed(layer.norm3, x)))
        return normed(attention.norm, x)

    @torch.no_grad()
    def _prepare(self) -> None:
        """Compute positions in slice and time as they act on projected queries and keys."""
        model, layers, crosses = self._model, self._layers, self._crosses
        side, device = model.sam_image_embedding_size, model.device
        here = torch.zeros(1, model.hidden_dim, side, side, device=device)
        self._position = model.image_encoder.neck.position_encoding(here).flatten(2).transpose(1, 2)
        own, cross = layers[0].self_attn, crosses[0]
        self._own_turns, self._turns = (
            attention.compute_cis(end_x=side, end_y=side).to(device) for attention in (own, cross)
        )
        self._own_scaled, self._scaled = (
            turns * (2 * turns.shape[-1]) ** -0.5 for turns in (self._own_turns, self._turns)
        )
        self.memory_position = [model.memory_encoder.position_encoding(here[:, : model.mem_dim])]
        spot = self.memory_position[0].flatten(2).transpose(1, 2)
        self._owns, self._asked = [], []
        for layer in layers:
            at = self._position if layer.pos_enc_at_attn else None
            attention = layer.self_attn
            self._owns.append(Joined([(attention.q_proj, at), (attention.k_proj, at), (attention.v_proj, None)]))
            at = self._position if layer.pos_enc_at_cross_attn_queries else None
            self._asked.append(Joined([(layer.cross_attn_image.q_proj, at)]))
        keyed = layers[0].pos_enc_at_cross_attn_keys
        values = [(c.v_proj, None) for c in crosses]
        self._of_slices = Joined([(c.k_proj, spot if keyed else None) for c in crosses] + values)
        self._of_pointers = Joined([(c.k_proj, None) for c in crosses] + values)
        self._key_weight = torch.stack([c.k_proj.weight for c in crosses]) * float(keyed)
        ages = torch.einsum("lcm,am->alc", self._key_weight, model.maskmem_tpos_enc[:, 0, 0])
        ages = ages[:, :, None].expand(-1, -1, self._tokens, -1)
        self._ages = [self._turn(cross._separate_heads(age, cross.num_heads), self._turns) for age in ages]

    def _turn(self, x: Tensor, turns: Tensor) -> Tensor:
        """Rotate queries or keys (..., tokens, channels) by their places in the slice."""
        paired = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(paired * turns).flatten(-2).to(self._dtype)

    def _bank(self, slot: Slot) -> _Bank:
        """Return keys and values of everything that the chain's next slice remembers."""
        back = 1 if slot.reverse else -1
        most = _NEAREST if self._memory == "nearest" else self._model.max_cond_frames_in_attn
        chosen, passed_over = select_closest_cond_frames(slot.z, slot.state.conditioning, most)
        parts = [self._join(chosen)]
        for age, output in self._recent(slot, back, passed_over):
            keys, values = self._of(output)
            parts.append(_Pair(keys + self._ages[age - 1], values))
        if self._model.use_obj_ptrs_in_encoder:
            parts += self._pointers(slot, back, chosen, passed_over)
        count = sum(keys.shape[2] for keys, _ in parts)
        fill = filling(count, parts[0].keys)
        if fill:
            zeros = parts[0].keys.new_zeros(1).expand(*parts[0].keys.shape[:2], fill, parts[0].keys.shape[3])
            parts.append(_Pair(zeros, zeros))
        return _Bank(*_together(parts), count)

    def _recent(self, slot: Slot, back: int, passed_over: dict[int, Output]) -> list[tuple[int, Output]]:
        """Return tracked slices behind the next one, each with its age from 1 to the number of places."""
        places = self._model.num_maskmem - 1
        reach = _REACH if self._memory == "confident" else places
        behind = [(away, _at(slot, slot.z + back * away, passed_over)) for away in range(1, reach + 1)]
        there = [(away, output) for away, output in behind if output is not None]
        if self._memory != "confident":
            return there
        best = sorted(there, key=lambda item: -item[1].get("iou", 0.0))[:places]
        return [(rank, output) for rank, (_, output) in enumerate(sorted(best, key=lambda item: item[0]), 1)]

    def _of(self, output: Output) -> _Pair:
        """Return a memory's keys, without its age, and values; most of them were computed before."""
        if id(output) in self._pairs:
            self._pairs.move_to_end(id(output))
            return self._pairs[id(output)][1]
        memory = output["maskmem_features"].float().flatten(2).transpose(1, 2)
        keys, values = self._separate(self._of_slices(memory))
        pair = _Pair(self._turn(keys, self._turns), values.to(self._dtype))
        self._pairs[id(output)] = output, pair  # the output too: its id stays taken
        if len(self._pairs) > self._kept:
            self._pairs.popitem(last=False)
        return pair

    def _separate(self, products: Sequence[Tensor]) -> _Pair:
        """Return the products (1, tokens, C) of all layers' keys, then of their values, as a pair."""
        count, heads = len(self._layers), self._crosses[0].num_heads
        keys, values = torch.cat(tuple(products[:count])), torch.cat(tuple(products[count:]))
        return _Pair(self._crosses[0]._separate_heads(keys, heads), self._crosses[0]._separate_heads(values, heads))

    def _join(self, chosen: dict[int, Output]) -> _Pair:
        """Return the keys and values of conditioning slices, joined once a click."""
        name = tuple(map(id, chosen.values()))
        if name not in self._joined:
            pairs = [self._of(output) for output in chosen.values()]
            self._joined[name] = _together([_Pair(keys + self._ages[-1], values) for keys, values in pairs])
        return self._joined[name]

    def _pointers(
        self, slot: Slot, back: int, chosen: dict[int, Output], passed_over: dict[int, Output]
    ) -> list[_Pair]:
        """Return keys and values of object pointers: of conditioning slices behind, and of the last slices tracked."""
        model, z = self._model, slot.z
        most = min(slot.features.depth, model.max_obj_ptrs_in_encoder)
        away = {t: (t - z) * back for t in chosen}
        if model.only_obj_ptrs_in_the_past_for_eval:
            away = {t: distance for t, distance in away.items() if distance >= 0}
        signed = model.use_signed_tpos_enc_to_obj_ptrs
        found = [(distance if signed else abs(distance), chosen[t]) for t, distance in away.items()]
        behind = [(distance, _at(slot, z + back * distance, passed_over)) for distance in range(1, most)]
        found += [(distance, output) for distance, output in behind if output is not None]
        if not found:
            return []
        split = model.hidden_dim // model.mem_dim
        tokens = torch.cat([output["obj_ptr"] for _, output in found]).reshape(1, -1, model.mem_dim)
        keys, values = self._separate(self._of_pointers(tokens))
        places = torch.cat([self._place(distance, most - 1) for distance, _ in found], 2)
        return [_Pair((keys + places.repeat_interleave(split, 2)).to(self._dtype), values.to(self._dtype))]

    def _place(self, distance: int, most: int) -> Tensor:
        """Return what a pointer's distance in slices adds to its keys: (layers, heads, 1, channels)."""
        model = self._model
        if (distance, most) not in self._places:
            weight = model.maskmem_tpos_enc
            place = weight.new_zeros(1, model.mem_dim)
            if model.add_tpos_enc_to_obj_ptrs:
                width = model.hidden_dim if model.proj_tpos_enc_in_obj_ptrs else model.mem_dim
                place = model.obj_ptr_tpos_proj(get_1d_sine_pe(weight.new_tensor([distance / most]), dim=width))
            keys = place.float() @ self._key_weight.transpose(1, 2)
            self._places[distance, most] = self._crosses[0]._separate_heads(keys, self._crosses[0].num_heads)
        return self._places[distance, most]


def _together(parts: Sequence[_Pair]) -> _Pair:
    return _Pair(torch.cat([keys for keys, _ in parts], 2), torch.cat([values for _, values in parts], 2))


def _gather(attention: RoPEAttention, found: list[Tensor]) -> Tensor:
    """Return an attention's output (B, tokens, C) from what each item's heads found."""
    return through(attention.out_proj, attention._recombine_heads(torch.stack(found)))


def _at(slot: Slot, z: int, passed_over: dict[int, Output]) -> Output | None:
    return slot.state.tracked.get(z) or passed_over.get(z)
