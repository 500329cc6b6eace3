"""Tokenizers: text to ids and back, one side or a pair, and what trains them."""

from nmt.data.tokenizer.base import Sampling, Tokenizer, Vocabulary
from nmt.data.tokenizer.character import CharacterTokenizer, CharacterTrainer
from nmt.data.tokenizer.copies import first_without_copy, line_surfaces
from nmt.data.tokenizer.pair import TokenizerPair
from nmt.data.tokenizer.sentencepiece import SentencePieceTokenizer, SentencePieceTrainer
from nmt.data.tokenizer.trainer import TokenizerTrainer
from nmt.data.tokenizer.word import WordTokenizer, WordTrainer

__all__ = [
    "CharacterTokenizer",
    "CharacterTrainer",
    "Sampling",
    "SentencePieceTokenizer",
    "SentencePieceTrainer",
    "Tokenizer",
    "TokenizerPair",
    "TokenizerTrainer",
    "Vocabulary",
    "WordTokenizer",
    "WordTrainer",
    "first_without_copy",
    "line_surfaces",
]
