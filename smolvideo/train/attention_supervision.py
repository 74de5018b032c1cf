"""Supervised attention (arXiv 1609.04186): a cross-entropy loss on selected heads.

To find the letter of an option, attention has to make several hops, each of which is useless
without the others; a network of this size does not discover them in hours of training. With
supervision it learns them in minutes. One head per hop is trained by the cross entropy of its
attention probabilities; a linear probe checks that the attended letter reached the hidden state.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo.network.decoder import Decoder, TextAttention, TextLayer, apply_rope
from smolvideo.train.packing import AttentionTarget, PackedBatch, TargetKind
from smolvideo.train.world.multiple_choice import OPTIONS


class Head(NamedTuple):
    layer: int
    head: int


HEADS: dict[TargetKind, tuple[Head, ...]] = {
    "letter of option": (Head(1, 0),),
    "question": (Head(1, 1), Head(1, 3)),
    "next of question": (Head(2, 0),),
    "moment": (Head(2, 3),),
    "option of said": (Head(3, 0),),
    "said before letter": (Head(4, 0),),
    "time": (Head(4, 2),),
}
"""Heads by kind of target; each is a layer later than the heads whose result it needs."""


class LetterProbe(nn.Linear):
    """Linear probe of hidden states ``[..., D]``: logits of the option letter ``[..., 5]``."""

    def __init__(self, width: int) -> None:
        super().__init__(width, OPTIONS)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden.float()
        level = hidden.pow(2).mean(-1, keepdim=True).add(1e-5).rsqrt()
        return F.linear(hidden * level, self.weight.float(), self.bias.float())


def forward_supervised(
    decoder: Decoder, reader: LetterProbe, vectors: Tensor, rows: PackedBatch
) -> tuple[Tensor, Tensor]:
    """Return hidden states ``[B, L, D]`` of the rows and the auxiliary attention loss.

    The loss is the sum, over the kinds of target that occur in the rows, of the mean cross entropy
    of their attention and of the letters that ``reader`` predicts from that layer's output.
    """
    mask = rows.mask(vectors.dtype)
    losses: list[Tensor] = []
    hooks = []
    for look, heads in HEADS.items():
        pointers = [
            (row, pointer)
            for row, shown in enumerate(rows.pointers)
            for pointer in shown
            if pointer.kind == look
        ]
        for layer, head in heads if pointers else ():
            part = decoder.layers[layer]
            assert isinstance(part, TextLayer)
            watch = _watch_attention(pointers, head, losses)
            hooks.append(part.self_attn.register_forward_pre_hook(watch))
            if pointers[0][1].option_index is not None:
                hooks.append(part.register_forward_hook(_watch_letters(pointers, reader, losses)))
    try:
        hidden = decoder(vectors, rows.positions, mask)
    finally:
        for hook in hooks:
            hook.remove()
    return hidden, sum(losses, vectors.new_zeros((), dtype=torch.float32))


def _watch_attention(
    pointers: Sequence[tuple[int, AttentionTarget]], head: int, losses: list[Tensor]
) -> Callable[[TextAttention, Any], None]:
    rows = torch.tensor([row for row, _ in pointers])
    at = torch.tensor([pointer.query_position for _, pointer in pointers])

    def watch(attention: TextAttention, given: Any) -> None:
        x, _, (cos, sin), mask = given
        width, group = attention.head_dim, head // (attention.heads // attention.kv_heads)
        q = F.linear(x, attention.q_proj.weight[head * width : (head + 1) * width])
        k = F.linear(x, attention.k_proj.weight[group * width : (group + 1) * width])
        q, k = (apply_rope(part.unsqueeze(2), cos, sin).squeeze(2) for part in (q, k))
        # Scores [B, L, L] of this one head; only the targets' query positions are used: [P, L].
        scores = (q * width**-0.5) @ k.mT + mask[:, 0]
        attended = scores[rows, at].float().log_softmax(-1)
        elsewhere = torch.ones_like(attended, dtype=torch.bool)
        for number, (_, pointer) in enumerate(pointers):
            for places in pointer.key_spans:
                elsewhere[number, places.start : places.stop] = False
        losses.append(-attended.masked_fill(elsewhere, -torch.inf).logsumexp(-1).mean())

    return watch


def _watch_letters(
    pointers: Sequence[tuple[int, AttentionTarget]], reader: LetterProbe, losses: list[Tensor]
) -> Callable[[nn.Module, Any, Tensor], None]:
    rows = torch.tensor([row for row, _ in pointers])
    at = torch.tensor([pointer.query_position for _, pointer in pointers])
    letters = torch.tensor([pointer.option_index for _, pointer in pointers])

    def watch(layer: nn.Module, given: Any, hidden: Tensor) -> None:
        losses.append(F.cross_entropy(reader(hidden[rows, at]), letters))

    return watch
