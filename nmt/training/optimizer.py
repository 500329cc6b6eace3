"""Torch's own optimisers by name, and their state as tensors named after the parameters."""

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adam, AdamW, Optimizer

from nmt.errors import ConfigError

_CLASSES: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD, "adadelta": Adadelta}
# our option -> torch's, per method; learning rate and weight decay are everyone's
_ADAM = {"betas": "betas", "epsilon": "eps"}
_OPTIONS: dict[str, dict[str, str]] = {
    "adam": _ADAM,
    "adamw": _ADAM,
    "sgd": {"momentum": "momentum"},
    "adadelta": {"rho": "rho", "epsilon": "eps"},
}
# methods that torch runs as one kernel over all parameters, and the devices that have it
_FUSED_METHODS = ("adam", "adamw", "sgd")
_FUSED_DEVICES = ("cpu", "cuda")


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    *,
    name: str,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    rho: float = 0.95,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Return the optimiser ``name`` over those of ``parameters`` that learn, fused where the device has that.

    Args:
        parameters: a model's parameters, all on one device.
        name: ``adam``, ``adamw`` (decoupled weight decay), ``sgd`` or ``adadelta``.
        learning_rate: the peak; a schedule multiplies it.
        betas: decay of the two moments (adam, adamw).
        epsilon: what is added to the denominator (adam, adamw, adadelta).
        rho: decay of the squared averages (adadelta).
        momentum: of sgd.
        weight_decay: an L2 penalty, or with adamw the decay of the weights themselves.

    Raises:
        ConfigError: an unknown name, a value out of range, or an option that this method does not have.
    """
    if name not in _CLASSES:
        raise ConfigError(f"training.optimizer.name={name} is not accepted; one of: {', '.join(_CLASSES)}")
    _require("learning_rate", learning_rate, learning_rate > 0, "above 0")
    betas_fit = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
    _require("betas", list(betas), betas_fit, "two numbers, each at least 0 and below 1")
    _require("epsilon", epsilon, epsilon >= 0, "at least 0")
    _require("rho", rho, 0 <= rho <= 1, "from 0 to 1")
    _require("momentum", momentum, momentum >= 0, "at least 0")
    _require("weight_decay", weight_decay, weight_decay >= 0, "at least 0")
    given = {"betas": (betas[0], betas[1]), "epsilon": epsilon, "rho": rho, "momentum": momentum}
    _refuse_unused(name, given)
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    options = {theirs: given[ours] for ours, theirs in _OPTIONS[name].items()}
    if name in _FUSED_METHODS and all(parameter.device.type in _FUSED_DEVICES for parameter in learning):
        options["fused"] = True
    return _CLASSES[name](learning, lr=learning_rate, weight_decay=weight_decay, **options)


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimiser's state as ``parameter name/field`` -> tensor; nothing is copied."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{field}": value
        for parameter, fields in optimizer.state.items()
        for field, value in fields.items()
        if value is not None
    }


def load_optimizer_tensors(optimizer: Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Set the state that :func:`optimizer_tensors` returned; the options stay those of ``optimizer``."""
    fields: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in tensors.items():
        name, _, field = key.rpartition("/")
        fields[name][field] = value.clone()
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state = {index: fields[name] for index, name in enumerate(order) if name in fields}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _require(option: str, value: object, accepted: bool, condition: str) -> None:
    """Raise unless the value of an option is accepted; torch's own errors do not name the key."""
    if not accepted:
        raise ConfigError(f"training.optimizer.{option}={value} is not accepted; it must be {condition}")


def _refuse_unused(name: str, given: dict[str, object]) -> None:
    """Raise if an option that ``name`` does not have was changed from its default."""
    defaults = inspect.signature(build_optimizer).parameters
    for option, value in given.items():
        if option not in _OPTIONS[name] and value != defaults[option].default:
            users = ", ".join(method for method, options in _OPTIONS.items() if option in options)
            raise ConfigError(
                f"training.optimizer.{option}={value} has no meaning for {name}; it is an option of {users}"
            )
