"""Memory attention for several slices at once, over keys and values that are computed once a click."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import get_1d_sine_pe, select_closest_cond_frames
from torch import Tensor

from synthfm_env.segmenters.sam2.chains import Slot
from synthfm_env.segmenters.sam2.state import Output

Memory = Literal["all", "nearest", "confident"]

_NEAREST = 4  # clicked slices that condition under "nearest"
_REACH = 16  # slices back among which "confident" chooses
_KEPT = 16  # slices a chain whose keys and values are kept

_Pairs = list[tuple[Tensor, Tensor]]  # keys and values (1, heads, tokens, channels), one pair a layer


class Recall:
    """What SAM 2's memory attention makes of slices, each with the memories of its own slot.

    The same sums as ``SAM2Base._prepare_memory_conditioned_features``, in another order: a memory's keys and values
    are projected once, not again for each slice that attends to it, and a temporal position is added to projected
    keys (projection and rotation are linear).
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
        self._tokens = model.sam_image_embedding_size**2
        self._dtype = dtype
        self._turns: list[Tensor] = []
        self._ages: list[list[Tensor]] = []
        self._query_position: Tensor | None = None
        self._pairs: OrderedDict[int, tuple[Output, _Pairs]] = OrderedDict()
        self._joined: dict[tuple[int, ...], _Pairs] = {}
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
            (B, C, h, w), conditioned on memory.
        """
        attention = self._model.memory_attention
        if not self._turns:
            self._prepare(coarse, slots[0])
        position = self._query_position
        assert position is not None
        x = coarse.flatten(2).transpose(1, 2)
        if attention.pos_enc_at_input:
            x = x + 0.1 * position
        self._kept = _KEPT * len(slots)
        banks = [self._bank(slot) for slot in slots]
        for i, layer in enumerate(self._layers):
            x = layer._forward_sa(x, position)
            cross = layer.cross_attn_image
            asked = layer.norm2(x)
            asked = cross.q_proj(asked + position if layer.pos_enc_at_cross_attn_queries else asked)
            queries = self._turn(cross._separate_heads(asked, cross.num_heads), i).to(self._dtype)
            found = [F.scaled_dot_product_attention(queries[b : b + 1], *bank[i]) for b, bank in enumerate(banks)]
            x = x + cross.out_proj(cross._recombine_heads(torch.cat(found)))
            x = x + layer.linear2(layer.activation(layer.linear1(layer.norm3(x))))
        return attention.norm(x).transpose(1, 2).reshape(coarse.shape)

    def _prepare(self, coarse: Tensor, slot: Slot) -> None:
        self._query_position = slot.features.positions[-1].transpose(0, 1)
        for layer in self._layers:
            cross = layer.cross_attn_image
            side = coarse.shape[-1]
            self._turns.append(cross.compute_cis(end_x=side, end_y=side).to(coarse.device))
        for i, layer in enumerate(self._layers):
            cross, weight = layer.cross_attn_image, layer.cross_attn_image.k_proj.weight
            ages = F.linear(self._model.maskmem_tpos_enc[:, 0], weight)  # (num_maskmem, 1, C)
            ages = ages.expand(-1, self._tokens, -1) * float(layer.pos_enc_at_cross_attn_keys)
            turned = self._turn(cross._separate_heads(ages, cross.num_heads), i).to(self._dtype)
            self._ages.append(list(turned.split(1)))

    def _turn(self, x: Tensor, layer: int) -> Tensor:
        """Rotate queries or keys (..., tokens, channels) by their places in the slice."""
        paired = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(paired * self._turns[layer]).flatten(-2)

    def _bank(self, slot: Slot) -> _Pairs:
        """Return keys and values of everything that the chain's next slice remembers."""
        back = 1 if slot.reverse else -1
        most = _NEAREST if self._memory == "nearest" else self._model.max_cond_frames_in_attn
        chosen, passed_over = select_closest_cond_frames(slot.z, slot.state.conditioning, most)
        parts = [self._join(chosen)]
        for age, output in self._recent(slot, back, passed_over):
            parts.append([(k + ages[age - 1], v) for (k, v), ages in zip(self._of(output), self._ages, strict=True)])
        if self._model.use_obj_ptrs_in_encoder:
            parts.append(self._pointers(slot, back, chosen, passed_over))
        layers = zip(*filter(None, parts), strict=True)
        return [(torch.cat([k for k, _ in layer], 2), torch.cat([v for _, v in layer], 2)) for layer in layers]

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

    def _of(self, output: Output) -> _Pairs:
        """Return a memory's keys, without its age, and values; most of them were computed before."""
        if id(output) in self._pairs:
            self._pairs.move_to_end(id(output))
            return self._pairs[id(output)][1]
        memory = output["maskmem_features"].float().flatten(2).transpose(1, 2)
        position = output["maskmem_pos_enc"][-1].flatten(2).transpose(1, 2)
        pairs = []
        for i, layer in enumerate(self._layers):
            cross = layer.cross_attn_image
            keys = cross.k_proj(memory + position if layer.pos_enc_at_cross_attn_keys else memory)
            values = cross._separate_heads(cross.v_proj(memory), cross.num_heads)
            turned = self._turn(cross._separate_heads(keys, cross.num_heads), i)
            pairs.append((turned.to(self._dtype), values.to(self._dtype)))
        self._pairs[id(output)] = output, pairs  # the output too: its id stays taken
        if len(self._pairs) > self._kept:
            self._pairs.popitem(last=False)
        return pairs

    def _join(self, chosen: dict[int, Output]) -> _Pairs:
        """Return the keys and values of conditioning slices, joined once a click."""
        name = tuple(map(id, chosen.values()))
        if name not in self._joined:
            pairs = [self._of(output) for output in chosen.values()]
            self._joined[name] = [
                (torch.cat([p[i][0] + self._ages[i][-1] for p in pairs], 2), torch.cat([p[i][1] for p in pairs], 2))
                for i in range(len(self._layers))
            ]
        return self._joined[name]

    def _pointers(self, slot: Slot, back: int, chosen: dict[int, Output], passed_over: dict[int, Output]) -> _Pairs:
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
        places = torch.cat([self._place(distance, most - 1) for distance, _ in found])
        positioned = tokens + places.repeat_interleave(split, 0)
        return [
            (
                cross._separate_heads(cross.k_proj(positioned if keyed else tokens), cross.num_heads).to(self._dtype),
                cross._separate_heads(cross.v_proj(tokens), cross.num_heads).to(self._dtype),
            )
            for cross, keyed in ((layer.cross_attn_image, layer.pos_enc_at_cross_attn_keys) for layer in self._layers)
        ]

    def _place(self, distance: int, most: int) -> Tensor:
        """Return the encoding (1, mem_dim) of a pointer's distance in slices."""
        model = self._model
        if (distance, most) not in self._places:
            weight = model.maskmem_tpos_enc
            place = weight.new_zeros(1, model.mem_dim)
            if model.add_tpos_enc_to_obj_ptrs:
                width = model.hidden_dim if model.proj_tpos_enc_in_obj_ptrs else model.mem_dim
                place = model.obj_ptr_tpos_proj(get_1d_sine_pe(weight.new_tensor([distance / most]), dim=width))
            self._places[distance, most] = place
        return self._places[distance, most]


def _at(slot: Slot, z: int, passed_over: dict[int, Output]) -> Output | None:
    return slot.state.tracked.get(z) or passed_over.get(z)
