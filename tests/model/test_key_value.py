import pytest
import torch
from numpy_model import array
from toys import close, random, randomised

from nmt.errors import ConfigError
from nmt.model.attention import ProjectedAnnotations, SharedAnnotations, SplitAnnotations
from nmt.model.encoder import Encoded, mask_from_lengths

B, S, M = 3, 5, 8
LENGTHS = (5, 1, 3)


def make_source(values=None):
    lengths = torch.tensor(LENGTHS)
    mask = mask_from_lengths(lengths, S)
    states = random(B, S, M, seed=1) * mask.unsqueeze(-1)
    return Encoded(states, mask, lengths - 1, (), None, values)


def test_split_takes_the_halves_in_order():
    source = make_source()
    annotations = SplitAnnotations(M)
    keys, values = annotations(source)
    assert (annotations.key_size, annotations.value_size) == (4, 4)
    assert torch.equal(torch.cat([keys.states, values.states], -1), source.states)


def test_projected_multiplies_by_a_matrix_each():
    source = make_source()
    annotations = randomised(ProjectedAnnotations(M, 3, 5).double())
    keys, values = annotations(source)
    assert (annotations.key_size, annotations.value_size) == (3, 5)
    for b in range(B):
        for j in range(S):
            h = array(source.states[b, j])
            assert array(keys.states[b, j]) == close(array(annotations.key.weight) @ h)
            assert array(values.states[b, j]) == close(array(annotations.value.weight) @ h)
    assert not values.states[1, 1:].any(), "values on padding"


def test_projected_keeps_the_encoders_size_unless_told():
    annotations = ProjectedAnnotations(M)
    assert annotations.key.weight.shape == annotations.value.weight.shape == (M, M)


@pytest.mark.parametrize("make", [SharedAnnotations, SplitAnnotations, ProjectedAnnotations])
def test_values_come_from_the_encoders_own_where_it_has_any(make):
    annotations = randomised(make(M).double())
    own = random(B, S, M, seed=9)
    keys, values = annotations(make_source(own))
    assert torch.equal(keys.states, annotations(make_source())[0].states)
    assert torch.equal(values.states, annotations(Encoded(own, *[None] * 4))[1].states)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="annotations=split cuts .* in two halves, but their size is 7; take an even"):
        SplitAnnotations(7)
    with pytest.raises(ConfigError, match=r"annotations\.key_size=0 is not accepted; it must be at least 1 or null"):
        ProjectedAnnotations(M, key_size=0)
    with pytest.raises(ConfigError, match=r"annotations\.value_size=-1 is not accepted"):
        ProjectedAnnotations(M, value_size=-1)
