"""Validation during training: the loss of gold targets, greedy BLEU, and samples for TensorBoard."""

from nmt.assemble import search_options
from nmt.cli.memory import give_back
from nmt.cli.preparation import Setting
from nmt.evaluation import Translation, corpus_bleu, corpus_perplexity, translate_lines, translation_alignments
from nmt.model import TranslationModel
from nmt.report import Heatmap, heatmap_image
from nmt.training import TensorBoardLog

_SAMPLES = 3


class Validation:
    """Validates on the loss of gold targets and on greedy BLEU; shows samples as they improve."""

    def __init__(self, setting: Setting, board: TensorBoardLog) -> None:
        assert setting.corpus.valid is not None
        self._setting, self._board = setting, board
        valid, limit = setting.corpus.valid, setting.config.training.validate_sentences
        self._sources, self._targets = list(valid.sources), list(valid.targets)
        self._pairs = setting.tokenizers.encode_pairs(self._sources, self._targets, copies=setting.model.copies)
        self._decoded = len(self._sources) if limit is None else min(limit, len(self._sources))
        self._options = search_options(setting.config.search, beam=1, n_best=1, sample=False)

    def scores(self, model: TranslationModel) -> dict[str, float]:
        """Return the loss (nats a token, unsmoothed), perplexity and greedy BLEU."""
        setting = self._setting
        # what a training step used and freed is of other sizes than what is needed here
        give_back()
        with setting.precision.arithmetic():
            found = corpus_perplexity(
                model, self._pairs, batch_tokens=setting.config.search.batch_tokens, device=setting.device
            )
        self._translations = self._translate(model, self._decoded, keep_weights=False)
        texts = [translation.text for translation in self._translations]
        bleu = corpus_bleu(texts, self._targets[: self._decoded], setting.corpus.target_language)
        return {"loss": found.nll, "perplexity": found.perplexity, "bleu": bleu}

    def show(self, model: TranslationModel, step: int) -> None:
        """Write sample translations and an alignment to TensorBoard."""
        rows = [
            f"**{translation.source}**\n\n{translation.text}\n\n*{reference}*"
            for translation, reference in zip(self._translations[:_SAMPLES], self._targets, strict=False)
        ]
        self._board.text("samples", "\n\n---\n\n".join(rows), step)
        if model.has_weights:
            (drawn,) = self._translate(model, 1, keep_weights=True)
            alignment = translation_alignments(drawn, self._setting.tokenizers, shift=0)[0]
            heatmap = Heatmap(alignment.source_words, alignment.target_words, alignment.weights, title=f"step {step}")
            self._board.image("alignment", heatmap_image(heatmap), step)

    def _translate(self, model: TranslationModel, count: int, *, keep_weights: bool) -> list[Translation]:
        """Translate the first sentences greedily."""
        # the weights change until the next time
        with self._setting.precision.arithmetic(prepared={}):
            return translate_lines(
                model,
                self._setting.tokenizers,
                self._sources[:count],
                self._options,
                batch_tokens=self._setting.config.search.batch_tokens,
                device=self._setting.device,
                keep_weights=keep_weights,
            )
