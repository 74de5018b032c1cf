"""One token through the whole decoder on a CPU, as one function in machine code.

What a token costs is reading weights, keys and values once. torch's operators add to that what a
call costs, a few hundred times a token, and their threads wait for each other after each. Here all
threads run the one function of ``token`` and share its parts; numba compiles it where it runs, and
keeps what it compiled. Nothing here knows torch: memory comes as addresses, see ``token_step``.
"""
