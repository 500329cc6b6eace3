"""The built-in corpus: English and German sentence pairs with exact word alignments, made by a synchronous grammar."""

from nmt.data.synthetic.corpus import SyntheticCorpus

__all__ = ["SyntheticCorpus"]
