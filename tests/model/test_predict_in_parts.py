"""What a step predicts for a slice of the batch is what it predicts for the whole."""

import pytest
import torch
from composed import options
from toys import batch_for, toy_model


@pytest.mark.parametrize("prediction", options("attention/prediction"))
def test_a_slice_of_the_batch(prediction):
    presets = {"pointer": "pointer_network", "pointer_generator": "pointer", "marginal": "hard"}
    model = toy_model(f"attention={presets.get(prediction, 'luong_general')}", cell="gru")
    batch = batch_for(model)
    with torch.no_grad():
        first = model.step(batch.target_in[:, :1], model.encode(batch.source, batch.source_lengths, batch.copies))
        beams = torch.zeros(len(batch), 3, dtype=torch.long)
        step = model.step(batch.target_in[:, 1:4], first.state.select(beams))
    whole = step.log_probs
    assert whole.shape[:2] == (len(batch), 3)
    for part in (slice(0, 1), slice(1, 3), slice(2, len(batch) + 5)):
        torch.testing.assert_close(step.predict(part), whole[part], rtol=1e-12, atol=1e-12)
