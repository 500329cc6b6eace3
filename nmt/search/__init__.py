"""Decoding over a step function: greedy, beam search and sampling are one batched loop with three ways to choose."""

from nmt.search.history import Hypothesis
from nmt.search.loop import State, Step, search
from nmt.search.options import SearchOptions

__all__ = ["Hypothesis", "SearchOptions", "State", "Step", "search"]
