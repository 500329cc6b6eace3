"""The softmax over the target vocabulary."""

from typing import final

import torch
from torch import Tensor

from nmt.model.cross_entropy import linear_cross_entropy
from nmt.model.decoder import Decoded
from nmt.model.embedding import OutputLayer
from nmt.model.prediction.base import Losses, Prediction
from nmt.model.products import Operand


@final
class VocabularyPrediction(Prediction):
    """p(y) = softmax(W_o r + b) of the readout r (Bahdanau et al. 2015, A.2.2; Luong et al. 2015, eq. 6)."""

    def log_probs(self, decoded: Decoded, output: Operand, copies: Tensor | None) -> Tensor:
        """Return log-probabilities [B, Q, V]."""
        return torch.log_softmax(output(decoded.readouts), dim=-1)

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
        return Losses(
            *linear_cross_entropy(decoded.readouts[mask], output.weight, output.bias, targets[mask], label_smoothing)
        )
