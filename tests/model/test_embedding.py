import pytest
import torch
from toys import TARGET_SIZE, E, gradients, new_model, random, toy_batch

from nmt.model.embedding import Embedding, OutputLayer


def make(**options):
    defaults = {"dropout": 0.0, "variational_dropout": False, "word_dropout": 0.0, "unknown": 1, "special": 3}
    return Embedding(17, E, **(defaults | options))


def test_rows_of_the_matrix():
    embedding = make()
    tokens = torch.tensor([[4, 16, 0], [5, 5, 2]])
    assert torch.equal(embedding(tokens), embedding.weight[tokens])
    # as recurrences read them
    assert embedding(tokens).transpose(0, 1).is_contiguous()
    assert embedding.weight.abs().max() <= 0.1


def test_word_dropout_is_for_training_only():
    embedding, tokens = make(word_dropout=0.9), torch.full((3, 50), 9)
    dropped = (embedding(tokens) == embedding.weight[1]).all(-1)
    assert 0.7 < dropped.double().mean() < 1
    assert torch.equal(embedding.eval()(tokens), embedding.weight[tokens])


def test_vectors_are_dropped_in_training():
    assert (make(dropout=0.5)(torch.full((3, 50), 9)) == 0).any()


@pytest.mark.parametrize("tied", [True, False])
def test_logits(tied):
    matrix = torch.nn.Parameter(random(TARGET_SIZE, E))
    output = OutputLayer(E, TARGET_SIZE, tied=matrix if tied else None).double()
    output.bias.data = random(TARGET_SIZE, seed=2)
    readouts = random(3, 2, E, seed=1)
    expected = readouts @ output.weight.t() + output.bias
    torch.testing.assert_close(output(readouts), expected)
    torch.testing.assert_close(output.prepare()(readouts), expected)
    assert (output.weight is matrix) == tied


TYING = {
    "none": ["source_embedding.weight", "target_embedding.weight", "output.weight"],
    "two_way": ["source_embedding.weight", "target_embedding.weight"],
    "three_way": ["source_embedding.weight"],
}


@pytest.mark.parametrize("tie", TYING)
def test_tied_matrices_are_one_parameter(tie):
    model = new_model("attention=luong_general", f"embedding.tie={tie}")
    matrices = [model.source_embedding.weight, model.target_embedding.weight, model.output.weight]
    assert len({matrix.data_ptr() for matrix in matrices}) == len({id(matrix) for matrix in matrices})
    assert [name for name, _ in model.named_parameters() if name in TYING["none"]] == TYING[tie]


@pytest.mark.parametrize("tie", ["two_way", "three_way"])
def test_a_tied_matrix_gets_the_sum_of_the_gradients(tie):
    tied = new_model("attention=luong_general", f"embedding.tie={tie}").double()
    apart = new_model("attention=luong_general", f"embedding.tie={tie}").double()
    _untie(apart)
    apart.load_state_dict(tied.state_dict(keep_vars=False))
    batch = toy_batch()
    together, single = gradients(tied, batch), gradients(apart, batch)
    uses = ["output.weight", "target_embedding.weight", "source_embedding.weight"][: 2 if tie == "two_way" else 3]
    assert all(single[use].any() for use in uses)
    torch.testing.assert_close(together[TYING[tie][-1]], sum(single[use] for use in uses))


def _untie(model):
    for module in (model.source_embedding, model.target_embedding, model.output):
        module.weight = torch.nn.Parameter(module.weight.detach().clone())


def test_a_step_keeps_tied_matrices_tied():
    model = new_model("attention=luong_general", "embedding.tie=three_way")
    before = model.output.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    gradients(model, toy_batch())
    optimizer.step()
    assert not torch.equal(model.output.weight, before)
    assert model.output.weight is model.target_embedding.weight is model.source_embedding.weight


def test_tied_weights_survive_saving():
    model, other = (new_model("attention=luong_general", "embedding.tie=three_way") for _ in range(2))
    other.source_embedding.weight.data.zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.output.weight, model.output.weight)
    assert other.output.weight is other.source_embedding.weight
