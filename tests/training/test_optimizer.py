import pytest
import torch
from torch import nn
from training_toy import ToyBatches, make_model, toy_loss

from nmt.errors import ConfigError
from nmt.training import build_optimizer, train_step
from nmt.training.optimizer import load_optimizer_tensors, optimizer_tensors

NAMES = ["adam", "adamw", "sgd", "adadelta"]


def made(model, name, **options):
    return build_optimizer(model.parameters(), name=name, learning_rate=0.1, **options)


def one_step(optimizer, parameter, gradient):
    parameter.grad = torch.tensor(gradient)
    optimizer.step()
    return parameter.detach().tolist()


def test_options_reach_torch():
    adam = made(make_model(), "adam", betas=(0.8, 0.9), epsilon=1e-5, weight_decay=0.01)
    group = adam.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.1, (0.8, 0.9), 1e-5, 0.01)
    assert made(make_model(), "adadelta", rho=0.7, epsilon=1e-6).param_groups[0]["rho"] == 0.7
    assert made(make_model(), "sgd", momentum=0.5).param_groups[0]["momentum"] == 0.5


def test_sgd_by_hand():
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = build_optimizer([parameter], name="sgd", learning_rate=0.5)
    assert one_step(optimizer, parameter, [2.0, -4.0]) == [0.0, 4.0]


def test_first_adam_step_is_the_learning_rate():
    parameter = nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = build_optimizer([parameter], name="adam", learning_rate=0.25)
    assert one_step(optimizer, parameter, [3.0, -0.01]) == pytest.approx([0.75, 1.25], abs=1e-5)


def test_adam_is_fused():
    assert made(make_model(), "adam").param_groups[0]["fused"] is True


def test_frozen_parameters_are_left_out():
    model = make_model()
    model[0].weight.requires_grad_(False)
    assert len(made(model, "adam").param_groups[0]["params"]) == 3


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_as_tensors(name):
    options = {"momentum": 0.9} if name == "sgd" else {}
    model, batches = make_model().eval(), list(ToyBatches().epoch(0))
    optimizer = made(model, name, **options)
    train_step(model, optimizer, batches[:1], loss_function=toy_loss)
    saved = {key: value.clone() for key, value in optimizer_tensors(optimizer, model).items()}
    copy = make_model(seed=8).eval()
    copy.load_state_dict(model.state_dict())
    other = made(copy, name, **options)
    load_optimizer_tensors(other, copy, saved)
    for each, its in ((model, optimizer), (copy, other)):
        train_step(each, its, batches[1:2], loss_function=toy_loss)
    assert saved
    assert all(key.rpartition("/")[0] in dict(model.named_parameters()) for key in saved)
    for one, two in zip(model.parameters(), copy.parameters(), strict=True):
        assert torch.equal(one, two)


def test_unknown_name():
    with pytest.raises(ConfigError, match=r"training\.optimizer\.name=lion is not accepted; one of: adam, adamw, sgd"):
        made(make_model(), "lion")


@pytest.mark.parametrize(
    ("name", "option", "users"),
    [
        ("adam", {"momentum": 0.9}, "sgd"),
        ("sgd", {"rho": 0.5}, "adadelta"),
        ("sgd", {"betas": (0.5, 0.5)}, "adam, adamw"),
    ],
)
def test_option_of_another_method(name, option, users):
    key = next(iter(option))
    with pytest.raises(ConfigError, match=rf"training\.optimizer\.{key}=.* no meaning for {name}; .* of {users}$"):
        made(make_model(), name, **option)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("adam", {"learning_rate": 0}, "learning_rate=0 is not accepted; it must be above 0"),
        ("adam", {"betas": (0.9, 1.5)}, r"betas=\[0\.9, 1\.5\] is not accepted; it must be two numbers"),
        ("adam", {"betas": (0.9,)}, r"betas=\[0\.9\] is not accepted; it must be two numbers"),
        ("adam", {"epsilon": -1.0}, "epsilon=-1.0 is not accepted; it must be at least 0"),
        ("adadelta", {"rho": 2.0}, "rho=2.0 is not accepted; it must be from 0 to 1"),
        ("sgd", {"momentum": -0.5}, "momentum=-0.5 is not accepted; it must be at least 0"),
        ("adamw", {"weight_decay": float("nan")}, "weight_decay=nan is not accepted; it must be at least 0"),
    ],
)
def test_values_out_of_range(name, option, message):
    with pytest.raises(ConfigError, match=rf"training\.optimizer\.{message}"):
        build_optimizer(make_model().parameters(), **{"name": name, "learning_rate": 0.1, **option})
