"""What torch computes too slowly on a CPU, as functions in machine code.

``token``: one token through the whole decoder. What a token costs is reading weights, keys and
values once. torch's operators add to that what a call costs, a few hundred times a token, and their
threads wait for each other after each.

``row_attention``: attention of many rows. What that costs are products of small matrices and the
softmax between them. torch writes the scores to memory and reads them again, several times.

All threads run one function and share its parts. numba compiles it where it runs, and keeps what it
compiled. Nothing here knows torch: memory comes as addresses, see ``token_step`` and
``row_attention`` in the package above.
"""
