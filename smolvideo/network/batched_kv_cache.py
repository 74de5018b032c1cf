"""KV cache of several sequences that are decoded together, with a shared prefix.

A step reads the weights, and the keys and values of the prefix, once for all sequences: it takes
little longer than a step for one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from smolvideo.network.kv_cache import SMALL_PAGE_SIZE, KVCache


class BatchedKVCache:
    """KV cache of ``B`` sequences: one shared prefix, and a padded suffix each."""

    def __init__(self, shared_prefix: KVCache, sequences: int, capacity: int) -> None:
        """Allocate ``capacity`` tokens for the suffix of each sequence."""
        self.shared_prefix = shared_prefix
        _, none = shared_prefix.layer(0).slice(0, 0)  # empty: for shape, dtype and device
        heads, _, width = none.shape
        shape = (shared_prefix.layers, sequences, heads, capacity, width)
        # Memory that is never written takes no pages on a CPU. Values must be finite all the same:
        # where a shorter sequence has not written yet, they are multiplied by zero.
        self._keys, self._values = none.new_empty(shape), none.new_zeros(shape)
        self._lengths = torch.zeros(sequences, dtype=torch.long, device=none.device)
        self._longest = 0
        self._unseen: Tensor | None = None

    def __len__(self) -> int:
        return len(self._lengths)

    def load_sequence(self, sequence: int, cache: KVCache) -> None:
        """Copy what ``cache`` holds after the shared prefix to the suffix of ``sequence``."""
        own = cache.length - self.shared_prefix.length
        for layer in range(cache.layers):
            keys, values = cache.layer(layer).slice(self.shared_prefix.length, cache.length)
            self._keys[layer, sequence, :, :own] = keys
            self._values[layer, sequence, :, :own] = values
        self._lengths[sequence] = own
        self._longest = max(self._longest, own)

    def select_sequences(self, sequences: Sequence[int]) -> None:
        """Keep only ``sequences``, renumbered in this order."""
        chosen = torch.tensor(sequences, device=self._lengths.device)
        self._lengths = self._lengths[chosen]
        self._longest = int(self._lengths.max())
        self._keys, self._values = (
            self._chosen(self._keys, chosen),
            self._chosen(self._values, chosen),
        )

    def positions(self) -> Tensor:
        """Position of the next token of each sequence, ``[B, 1]``."""
        return (self.shared_prefix.length + self._lengths)[:, None]

    def begin_step(self) -> None:
        """Make room and a mask for one more token of every sequence; must be called before
        ``attend``."""
        self._longest += 1
        places = torch.arange(self._longest, device=self._lengths.device)
        self._unseen = places[None] > self._lengths[:, None]

    def end_step(self) -> None:
        """Count the new tokens; must be called after all layers have appended theirs."""
        self._lengths += 1

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend with one new token per sequence: ``q`` ``[B, H, 1, d]``, ``k`` and ``v``
        ``[B, G, 1, d]``.

        Appends the keys and values; returns the attention output ``[B, H, 1, d]``.
        """
        b, heads, _, width = q.shape
        groups, shared = k.shape[1], heads // k.shape[1]
        # append the new keys and values
        sequences = torch.arange(b, device=q.device)
        self._keys[layer, sequences, :, self._lengths] = k[:, :, 0]
        self._values[layer, sequences, :, self._lengths] = v[:, :, 0]
        own_keys = self._keys[layer].flatten(0, 1)[:, : self._longest]
        own_values = self._values[layer].flatten(0, 1)[:, : self._longest]
        seen_by_all = self.shared_prefix.layer(layer).slice(0, self.shared_prefix.length)

        # scores of the suffixes
        queries = (q * width**-0.5).view(b, groups, shared, width)
        own = torch.bmm(queries.flatten(0, 1), own_keys.mT).view(b, groups, shared, -1)
        assert self._unseen is not None
        own.masked_fill_(self._unseen[:, None, None], float("-inf"))
        # scores of the prefix: all sequences in one product over its keys
        together = queries.transpose(0, 1).reshape(groups, b * shared, width)
        common = torch.bmm(together, seen_by_all[0].mT)
        common = common.reshape(groups, b, shared, -1).transpose(0, 1)
        # one softmax over prefix and suffix
        weights = torch.cat((common, own), dim=-1).softmax(dim=-1)
        on_common, on_own = weights.split((self.shared_prefix.length, self._longest), dim=-1)
        # weighted sums of values, of the prefix and then of the suffixes
        on_common = on_common.transpose(0, 1).reshape(groups, b * shared, -1)
        mixed = torch.bmm(on_common, seen_by_all[1]).view(groups, b, shared, width)
        mixed = mixed.transpose(0, 1).reshape(b * groups, shared, width)
        return torch.baddbmm(mixed, on_own.flatten(0, 1), own_values).view(b, heads, 1, width)

    def _chosen(self, rows: Tensor, sequences: Tensor) -> Tensor:
        """Copy the chosen sequences, padded with zeros."""
        layers, _, *rest = rows.shape
        chosen = rows.new_zeros(layers, len(sequences), *rest)
        chosen[:, :, :, : self._longest] = rows[:, sequences, :, : self._longest]
        return chosen


class BatchedPagedKVCache:
    """A ``BatchedKVCache`` for a ``CpuDecoder``: each suffix is a paged cache."""

    def __init__(self, shared_prefix: KVCache, sequences: int, capacity: int) -> None:
        """As ``BatchedKVCache``; ``shared_prefix`` must be paged."""
        self.shared_prefix = shared_prefix
        self.suffixes = [
            shared_prefix.new_with_page_size(SMALL_PAGE_SIZE, capacity) for _ in range(sequences)
        ]

    def __len__(self) -> int:
        return len(self.suffixes)

    def load_sequence(self, sequence: int, cache: KVCache) -> None:
        """Copy what ``cache`` holds after the shared prefix to the suffix of ``sequence``."""
        own = self.suffixes[sequence]
        for layer in range(cache.layers):
            keys, values = cache.layer(layer).slice(self.shared_prefix.length, cache.length)
            own.layer(layer).write(0, keys[None], values[None])
        own.length = cache.length - self.shared_prefix.length

    def select_sequences(self, sequences: Sequence[int]) -> None:
        """Keep only ``sequences``, none of them twice, renumbered in this order."""
        self.suffixes = [self.suffixes[sequence] for sequence in sequences]
