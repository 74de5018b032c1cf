"""The version of smolvideo, defined only here."""

__version__ = "0.1.0"
