import torch
from toys import random

from nmt.model.attention.additive import _Energies


def test_energies_gradient():
    query, keys, vector = random(2, 3, 5), random(2, 7, 5, seed=1), random(5, seed=2)
    given = [each.requires_grad_() for each in (query, keys, vector)]
    assert torch.autograd.gradcheck(_Energies.apply, given)


def test_energies_of_extreme_sums_are_those_of_tanh():
    query = torch.tensor([-1e4, -20.0, -1e-6, 0.0, 1e-6, 20.0, 1e4]).view(1, 7, 1)
    energies = _Energies.apply(query, torch.zeros(1, 1, 1), torch.tensor([2.0]))
    torch.testing.assert_close(energies, 2 * torch.tanh(query), rtol=0, atol=1e-6)
