"""The SmolVLM network, with the parameter names of a published checkpoint."""

from typing import cast

from torch import Tensor, nn

from smolvideo.models.network_config import NetworkConfig
from smolvideo.network.batched_kv_cache import BatchedKVCache, BatchedPagedKVCache
from smolvideo.network.cpu_decode import CpuDecoder
from smolvideo.network.decoder import Decoder, TextAttention, TextMLP
from smolvideo.network.int4 import Int4Weight
from smolvideo.network.int8 import Int8Weight
from smolvideo.network.kv_cache import KVCache
from smolvideo.network.linear import Linear
from smolvideo.network.vision import Connector, VisionAttention, VisionLayer, VisionTower


class SmolVLMModel(nn.Module):
    """Modules whose parameters are under ``model.`` in the checkpoints."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.vision_model = VisionTower(config.vision)
        self.connector = Connector(config)
        self.text_model = Decoder(config.text)


class SmolVLM(nn.Module):
    """Vision tower, connector, decoder and head; a tied head shares the embedding's weight.

    ``cpu_decoder`` decodes single tokens where it is faster than torch.
    """

    cpu_decoder: CpuDecoder | None = None

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.model = SmolVLMModel(config)
        self.lm_head = Linear(config.text.hidden_size, config.text.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Share the embedding's weight with the head, if the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.text_model.embed_tokens.weight

    @property
    def attention_backend_name(self) -> str:
        """Name of the vision tower's attention backend; backends round differently."""
        layer = cast(VisionLayer, self.model.vision_model.encoder.layers[0])
        return layer.self_attn.attention_backend.name

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Encode pixels ``[N, 3, S, S]`` in −1…1 to the decoder's image features ``[N, T, D]``."""
        return self.model.connector(self.model.vision_model(pixels))

    def embed_inputs(self, token_ids: Tensor, features: Tensor, image_token_id: int) -> Tensor:
        """Embed ids ``[B, L]`` → ``[B, L, D]``; image tokens take ``features`` ``[N, T, D]``."""
        vectors: Tensor = self.model.text_model.embed_tokens(token_ids)
        at_images = (token_ids == image_token_id).unsqueeze(-1)
        return vectors.masked_scatter(at_images, features.reshape(-1, features.shape[-1]))

    def embed_token(self, token_id: int) -> Tensor:
        """Embedding of one token ``[1, 1, D]``: a view of the table, neither copied nor moved to
        the device."""
        return self.model.text_model.embed_tokens.weight[token_id].view(1, 1, -1)

    def new_cache(self, capacity: int) -> KVCache:
        """Allocate a KV cache for ``capacity`` tokens."""
        weight, paged = self.model.text_model.norm.weight, self.cpu_decoder is not None
        return KVCache.empty(
            self.config.text, capacity, device=weight.device, dtype=weight.dtype, paged=paged
        )

    def new_batch_cache(
        self, common: KVCache, sequences: int, capacity: int
    ) -> BatchedKVCache | BatchedPagedKVCache:
        """Allocate a KV cache for ``sequences`` after the shared prefix ``common``, ``capacity``
        tokens each."""
        kind = BatchedKVCache if self.cpu_decoder is None else BatchedPagedKVCache
        return kind(common, sequences, capacity)

    def prefill(self, vectors: Tensor, cache: KVCache, *, last: int = 1) -> Tensor:
        """Append ``vectors`` ``[1, L, D]`` to ``cache``; return the logits ``[last, vocabulary]``.

        The head runs only over the ``last`` tokens.
        """
        if self.cpu_decoder is not None and vectors.shape[1] == 1:
            return self.cpu_decoder.decode(vectors[0], cache)
        hidden = self.model.text_model.prefill(vectors, cache, num_logits=last)
        return self.lm_head(hidden)[0]

    def decode_batch(self, vectors: Tensor, batch: BatchedKVCache | BatchedPagedKVCache) -> Tensor:
        """Append one token ``[B, D]`` to each sequence; return the logits ``[B, vocabulary]``."""
        if isinstance(batch, BatchedPagedKVCache):
            assert self.cpu_decoder is not None
            return self.cpu_decoder.decode_batch(vectors, batch)
        hidden = self.model.text_model.decode_batch(vectors, batch)
        logits: Tensor = self.lm_head(hidden)
        return logits


def prepare_for_inference(part: nn.Module, *, compiled: bool = False) -> None:
    """Fuse and pack the linear layers of ``part`` itself; it cannot be trained afterwards.

    Its children need calls of their own: no more than one module is in memory twice. ``compiled``:
    compiled kernels do some of the work. Weights that a ``cpu_decoder`` reads, too, stay row-major:
    2,048 rows take 3 to 6 % longer with them.
    """
    if isinstance(part, VisionAttention | TextAttention | TextMLP):
        part.fuse_projections()
    if compiled and isinstance(part, VisionAttention):
        part.use_compiled_attention()
    if compiled and isinstance(part, SmolVLM):
        return  # the head: no GELU or addition to fuse
    for child in part.children():
        if isinstance(child, Linear):
            child.pack_for_onednn(in_rows=compiled and isinstance(part, TextAttention | TextMLP))


def weight_bytes(network: SmolVLM) -> int:
    """Memory of all weights, in whatever format, packed ones included."""
    others = (
        part.weight_bytes
        for part in network.modules()
        if isinstance(part, Linear)
        and (part.packed is not None or part.quantized_weight is not None)
    )
    return sum(weight.nbytes for weight in network.parameters()) + sum(others)


def quantizable_layers(network: SmolVLM) -> dict[str, Linear]:
    """Weight name → linear layer that may be quantized: all of vision tower, decoder and head.

    A head that is tied to the embedding stays as it is, as embedding and connector do: 6 % (2.2B)
    to 14 % (256M) of the published weights.
    """
    maps = {
        f"{name}.weight": part
        for name, part in network.named_modules()
        if isinstance(part, Linear) and ".layers." in name
    }
    if not network.config.tie_word_embeddings:
        maps["lm_head.weight"] = network.lm_head
    return maps


def weight_formats(network: SmolVLM, quantize: str) -> dict[str, type[Int8Weight | Int4Weight]]:
    """Weight name → format that ``quantize`` gives it; other weights stay as they are.

    ``int4`` is for the decoder's layers alone: every token waits for them. A frame is many rows,
    and many rows take longer in int4. Layers that are fused have one format.
    """
    if quantize == "none":
        return {}
    kinds: dict[str, type[Int8Weight | Int4Weight]] = {}
    for name, part in network.named_modules():
        maps = {key: child for key, child in part.named_children() if isinstance(child, Linear)}
        in_four = quantize == "int4" and ".text_model.layers." in name
        fitting = all(Int4Weight.is_packable(m.out_features, m.in_features) for m in maps.values())
        kind = Int4Weight if in_four and fitting else Int8Weight
        kinds |= {f"{name}.{key}.weight".removeprefix("."): kind for key in maps}
    allowed = quantizable_layers(network)
    return {name: kind for name, kind in kinds.items() if name in allowed}
