"""The softmax over the target vocabulary."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from nmt.model.cross_entropy import linear_cross_entropy
from nmt.model.decoder import Decoded
from nmt.model.embedding import OutputLayer
from nmt.model.prediction.base import Losses, Prediction
from nmt.model.prediction.rows import Rows
from nmt.model.products import Operand


@final
class VocabularyPrediction(Prediction):
    """p(y) = softmax(W_o r + b) of the readout r (Bahdanau et al. 2015, A.2.2; Luong et al. 2015, eq. 6)."""

    def log_probs(self, decoded: Decoded, output: Operand, copies: Tensor | None) -> Tensor:
        """Return log-probabilities [B, Q, V]."""
        return torch.log_softmax(output(decoded.readouts), dim=-1)

    def prepare(self, decoded: Decoded, output: Operand, copies: Tensor | None) -> Callable[[slice], Tensor]:
        """Return what makes the log-probabilities of a slice of the batch when asked for them."""
        return lambda sentences: torch.log_softmax(output(decoded.readouts[sentences]), dim=-1)

    def losses(
        self,
        decoded: Decoded,
        output: OutputLayer,
        targets: Tensor,
        mask: Tensor,
        *,
        label_smoothing: float,
        copies: Tensor | None,
    ) -> Losses:
        """Return the losses; the logits never exist whole."""
        assert output.weight is not None
        rows = Rows.of(mask)
        given = rows.take(decoded.readouts), output.weight, output.bias, rows.take(targets)
        loss, nll = linear_cross_entropy(*given, label_smoothing, rows.real)
        return Losses(loss, rows.spread(nll))
