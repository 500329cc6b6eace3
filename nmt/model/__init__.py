"""The encoder-decoder: encoders, attention, the two wirings of the decoder, and the model that joins them.

Letters of shapes: B batch, S source positions with EOS, T target positions, Q queries a sentence at once (1 in a
recurrence, T where all are known, K in beam search), E embedding, M source state, H decoder state, A attention, F
readout, V vocabulary, K beam, G gates of a cell. Masks are True on real tokens.

=====================  =====================================  ==========================
Bahdanau et al. 2015   Luong et al. 2015                      here
=====================  =====================================  ==========================
h_j                    h-bar_s                                ``states[:, j]``
s_i                    h_t                                    decoder state (``hidden``)
e_ij                   score(h_t, h-bar_s)                    ``scores``
alpha_ij               a_t(s)                                 ``weights``
c_i                    c_t                                    ``context``
t~_i, t_i              h~_t                                   ``readout``
E y                    (embedding)                            ``embedded``
=====================  =====================================  ==========================
"""

from nmt.model.products import Layouts, Rounding, arithmetic, searching
from nmt.model.translation_model import TranslationModel

__all__ = ["Layouts", "Rounding", "TranslationModel", "arithmetic", "searching"]
