"""Data: where sentence pairs come from, how text becomes tokens, tokens batches, and pieces words again."""

from nmt.data.batches import Batch, EncodedPairs, FlatSequences, TokenBatches, encode_sources, filter_pairs
from nmt.data.corpus import Corpus, CorpusSource, GoldLinks, Link, ParallelText
from nmt.data.links import format_links, parse_links
from nmt.data.synthetic import SyntheticCorpus
from nmt.data.text_corpus import TextCorpus
from nmt.data.tokenizer import (
    CharacterTokenizer,
    CharacterTrainer,
    Sampling,
    SentencePieceTokenizer,
    SentencePieceTrainer,
    Tokenizer,
    TokenizerPair,
    TokenizerTrainer,
    Vocabulary,
    WordTokenizer,
    WordTrainer,
    first_without_copy,
    line_surfaces,
)
from nmt.data.training_pairs import TrainingPairs, open_pairs
from nmt.data.vocabulary import BOS, EOS, PAD, UNK
from nmt.data.words import links_from_weights, merge_weights, piece_words, shift_weights, split_words

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "Batch",
    "CharacterTokenizer",
    "CharacterTrainer",
    "Corpus",
    "CorpusSource",
    "EncodedPairs",
    "FlatSequences",
    "GoldLinks",
    "Link",
    "ParallelText",
    "Sampling",
    "SentencePieceTokenizer",
    "SentencePieceTrainer",
    "SyntheticCorpus",
    "TextCorpus",
    "TokenBatches",
    "Tokenizer",
    "TokenizerPair",
    "TokenizerTrainer",
    "TrainingPairs",
    "Vocabulary",
    "WordTokenizer",
    "WordTrainer",
    "encode_sources",
    "filter_pairs",
    "first_without_copy",
    "format_links",
    "line_surfaces",
    "links_from_weights",
    "merge_weights",
    "open_pairs",
    "parse_links",
    "piece_words",
    "shift_weights",
    "split_words",
]
