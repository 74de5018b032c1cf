"""numba CPU kernels for decoding and attention.

``decode``: one decode step of the whole decoder in one call. Decoding one token is bound by reading
the weights and the KV cache. torch adds the call overhead of a few hundred operators per token, and
a thread barrier after each.

``flash_attention``: attention of many queries (patches of a frame, tokens of a prompt). It is bound
by products of small matrices and the softmax between them; torch writes the scores to memory and
reads them again several times.

All threads run one function and claim chunks of its work from atomic counters (``work_sharing``).
numba compiles for the host CPU and caches the result on disk. The kernels do not import torch:
tensors come as addresses, from ``cpu_decode`` and ``attention_backend`` in the package above.
"""
