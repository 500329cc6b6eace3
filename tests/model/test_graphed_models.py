"""Every variant as CUDA graphs: the gradients of eager passes, or one line in the log that says why not."""

import logging

import pytest
import torch
from toys import CASES, assert_same, batch_for, label, toy_model

from nmt.model.attention import HierarchicalAttention
from nmt.model.scheduled import begin_step
from nmt.training import graphs
from nmt.training.graphs import Graphs, own_stream
from nmt.training.loss import add_gradients, batch_loss

ONCE = {variant: (variant, cell) for variant, cell in CASES}.values()


def loss_function(model, batch):
    return batch_loss(model, batch, 0.1)


def found(model, add, batches):
    """Sums and gradients of batches."""
    model.zero_grad(set_to_none=False)
    device = next(model.parameters()).device
    sums, tokens = torch.zeros(4, dtype=torch.float64, device=device), torch.full((), 7.0, device=device)
    for batch in batches:
        add(batch, tokens, sums)
    gradients = {name: each.grad.cpu() for name, each in model.named_parameters() if each.grad is not None}
    return {"sums": sums.cpu(), **gradients}


# float32 is what the kernels for GPUs are for
@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-3)], ids=str)
@pytest.mark.parametrize(("variant", "cell"), ONCE, ids=[label(variant) for variant, _ in ONCE])
def test_graphs_have_the_gradients_of_eager_passes(variant, cell, cuda, caplog, dtype, tolerance):
    model = toy_model(*variant, cell=cell).to(cuda).to(dtype)
    # nothing changes by schedule any more
    begin_step(model, 10**6)
    batches = [batch_for(model), batch_for(model, source_lengths=(3, 1), target_lengths=(2, 3))]
    subject = Graphs(model, loss_function)
    with caplog.at_level(logging.INFO), own_stream(cuda):
        for _ in range(4):
            graphed = found(model, subject.add_gradients, batches)
        eager = found(model, lambda batch, *rest: add_gradients(model, loss_function, batch.to(cuda), *rest), batches)
    assert_same(graphed, eager, tolerance=tolerance)
    lines = [record for record in caplog.records if record.name == graphs.__name__]
    attention = model.decoder.attention
    if isinstance(attention, HierarchicalAttention) and attention.separator is not None:
        assert not subject._graphs and len(lines) == 1, "it counts sentences, on the host"
    else:
        assert len(subject._graphs) == 2 and not lines
