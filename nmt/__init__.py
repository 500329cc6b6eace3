"""Recurrent neural machine translation with every attention of the literature behind one switch."""

__version__ = "0.1.0"
