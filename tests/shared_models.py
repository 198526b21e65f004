"""Models that many tests share: none may leave one changed, or the next test, whichever that is, sees another model.

What is looked at after every test that uses one is cheap: places and versions of tensors, hooks, and whatever lies in
front of a module's own attributes. Every weight itself is compared once, when the tests are over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

from pipelines.model import LoadedModel

#: Attributes of a module that hold hooks; an idle model has none.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")

State = dict[str, object]


def parts(model: LoadedModel) -> dict[str, nn.Module]:
    """Return the modules of a model by their components' names."""
    names = ("unet", "vae", *model.layout)
    return {name: model.component(name) for name in dict.fromkeys(names)}


def state(model: LoadedModel) -> State:
    """Return what must be the same after a test as before it."""
    found: State = {}
    for component, root in parts(model).items():
        for path, module in root.named_modules():
            own = vars(module)
            name = f"{component}.{path}"
            found[f"{name} (front)"] = tuple(sorted({"weight", "bias", "forward"} & own.keys()))
            found[f"{name} (hooks)"] = tuple(foreign_hooks(own.get(kind) or {}) for kind in _HOOKS)
            found[f"{name} (mode)"] = module.training
        for path, tensor in (*root.named_parameters(), *root.named_buffers()):
            found[f"{component}.{path}"] = (tensor.data_ptr(), tensor._version, tensor.requires_grad, tensor.dtype)
    return found


def foreign_hooks(hooks: Mapping[int, Callable[..., object]]) -> int:
    """Count hooks; those that transformers lays at its models' first call, to collect outputs, stay for good."""
    return sum(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks.values())


def process() -> State:
    """Return what of the process a test may not leave changed."""
    return {
        "default dtype": torch.get_default_dtype(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
    }


#: What was found after the last test that used a model: what the next one finds before it.
_known: WeakKeyDictionary[LoadedModel, State] = WeakKeyDictionary()


def differences(before: State, after: State) -> list[str]:
    """Return the names of what is not as it was."""
    return [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]


@contextmanager
def unchanged(models: dict[str, LoadedModel]) -> Iterator[None]:
    """Check that models and the process are left as they were found."""
    before = {name: _known.get(model) or state(model) for name, model in models.items()}
    around = process()
    yield
    for name, model in models.items():
        after = _known[model] = state(model)
        assert (left := differences(before[name], after)) == [], f"the shared model {name!r} is changed: {left}"
    assert differences(around, process()) == []
