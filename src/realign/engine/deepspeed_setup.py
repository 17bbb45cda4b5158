"""DeepSpeed as this package uses it: a generated configuration, and whole tensors in and out.

Every ZeRO stage is entered by `initialize`, with a torch optimizer, so that nothing is compiled.
`training_tensors` and `restore_optimizer` read and write parameters and optimizer states whole and
by parameter name: checkpoints are plain safetensors, and any number of processes, at any stage,
can go on from them. DeepSpeed's own checkpoints are pickles bound to a number of processes.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from realign.artifacts.command import UserError
from realign.engine.checkpoints import Checkpoint
from realign.engine.devices import Precision

log = logging.getLogger(__name__)
PARAMETER, OPTIMIZER = "parameter/", "optimizer/"
# Keys of a user's own configuration that this package sets, since its loop owns the batch.
_OWN = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")


def build_config(
    stage: int,
    precision: Precision,
    processes: int,
    parameters: int,
    clip: float = 0.0,
    own: Mapping[str, Any] | None = None,
    reduce_once: bool = False,
) -> dict[str, Any]:
    """DeepSpeed's configuration; what a user's own one says wins, except for the batch, which is ours.

    `parameters` is the number of trainable ones: buckets are allocated whole for a small model too.
    Many buckets to a model let its backward pass run beside their reduction, and cost less memory.
    """
    bucket = max(1, min(parameters, 50_000_000))
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": processes,
        "gradient_clipping": clip,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
        "timers": {"throughput": {"enabled": False}},  # it would wait for the GPU at every forward pass
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": precision == "bf16",
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "stage3_prefetch_bucket_size": bucket,
            "stage3_max_live_parameters": max(bucket, 1_000_000_000),
        },
    }
    if precision == "bf16":
        # Chunks of one batch add up in fp32; bf16 would lose the small ones. Processes add up in fp32
        # too where it costs one reduction a step; by chunk, it would double what each of them sends.
        config |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
        if stage == 1 or reduce_once:
            config["communication_data_type"] = "fp32"
    if taken := [key for key in _OWN if own and own.get(key, "auto") != "auto"]:
        raise UserError(f"the DeepSpeed configuration sets {', '.join(taken)}; leave that to the recipe")
    if own and own.get("scheduler", "auto") != "auto":
        raise UserError(
            "the DeepSpeed configuration sets a scheduler, which would do nothing: the learning rate of "
            "every step is the recipe's (optimizer.learning_rate, schedule, warmup)"
        )
    config = _overlay(config, own or {})
    if precision == "bf16" and config["zero_optimization"]["stage"] == 0:
        raise UserError("bf16 with fp32 master weights needs ZeRO stage 1, 2 or 3; stage 0 keeps none")
    return config


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping):
            merged[key] = _overlay(merged.get(key) or {}, value)
        elif value != "auto":
            merged[key] = value
    return merged


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with weight decay on matrices only, as is usual: no norms, no biases."""
    parameters = list(trainable(model).values())
    groups = [
        {"params": [p for p in parameters if len(whole_shape(p)) > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if len(whole_shape(p)) <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def initialize(
    model: nn.Module,
    groups: Iterable[dict[str, Any]],
    make_optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    config: Mapping[str, Any],
) -> Any:
    """The DeepSpeed engine of a model; an optimizer that the configuration names goes before ours."""
    import deepspeed

    groups = list(groups)
    given = None if "optimizer" in config else make_optimizer(groups)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=given,
        model_parameters=groups if given is None else None,
        config=dict(config),
        dist_init_required=False,
    )
    return engine


def initialize_adamw(
    model: nn.Module, weight_decay: float, config: Mapping[str, Any], saved: Checkpoint | None, **adamw: Any
) -> Any:
    """The DeepSpeed engine of a model with AdamW, as new or as a checkpoint left it."""
    tensors = saved.tensors() if saved else {}
    if saved:
        restore_parameters(model, tensors)
    groups = decay_groups(model, weight_decay)
    engine = initialize(model, groups, lambda groups: torch.optim.AdamW(groups, **adamw), config)
    if saved:
        restore_optimizer(engine, tensors, saved.state["optimizer"])
    return engine


def set_learning_rate(engine: Any, rate: float) -> None:
    """Let the next step take this learning rate."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def accumulate_in_fp32(model: nn.Module) -> None:
    """Let autograd add up gradients in fp32, also of parameters in bf16.

    DeepSpeed leaves gradients where autograd puts them until it reduces them once for a whole step, and
    autograd would add them up in the parameters' own type.
    """
    for parameter in trainable(model).values():
        parameter.grad_dtype = torch.float32  # type: ignore[attr-defined]


def forget_backward(engine: Any) -> None:
    """Tell ZeRO that the next backward pass is one of its own, though no forward pass came before it.

    ZeRO counts backward passes at the forward pass after each (`clear_backward_seen_flag`). Without it a
    second graph's gradient would replace the first's instead of being added.
    """
    if hasattr(engine.optimizer, "clear_backward_seen_flag"):
        engine.optimizer.clear_backward_seen_flag()


@contextlib.contextmanager
def divided(config: Mapping[str, Any]) -> Iterator[None]:
    """At ZeRO 3, models loaded in this block are divided among the processes weight by weight.

    So no process ever holds one whole, unlike a model that is loaded first and then divided.
    """
    told = None
    if config["zero_optimization"]["stage"] == 3:
        from transformers.integrations import HfDeepSpeedConfig

        told = HfDeepSpeedConfig(dict(config))  # transformers looks at it for as long as it lives
    yield
    del told


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """A parameter's shape; what ZeRO 3 has divided has none of its own."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def full_parameter(parameter: nn.Parameter) -> torch.Tensor:
    """A parameter's master value, whole, on every process."""
    from deepspeed.utils import safe_get_full_fp32_param

    value = safe_get_full_fp32_param(parameter)
    return parameter.detach() if value is None else value


def full_gradient(parameter: nn.Parameter) -> torch.Tensor | None:
    """A parameter's gradient of the whole step, after the last backward and before the step."""
    from deepspeed.utils import safe_get_full_grad

    return safe_get_full_grad(parameter)


def _inner_optimizer(engine: Any) -> torch.optim.Optimizer:
    """The torch optimizer below whatever ZeRO wraps around it."""
    optimizer = engine.optimizer
    return optimizer.optimizer if hasattr(optimizer, "optimizer") else optimizer


def _flat_partitions(engine: Any) -> list[torch.Tensor] | None:
    """The flat tensors that ZeRO gives the optimizer in place of parameters; none at stage 0."""
    names = ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat", "fp32_groups_flat_partition")
    for name in names:
        if hasattr(engine.optimizer, name):
            return list(getattr(engine.optimizer, name))
    return None


def _state_kinds(engine: Any) -> tuple[list[str], dict[str, float]]:
    """Which optimizer states have a parameter's shape, and the scalar ones with their values."""
    shaped: dict[str, None] = {}
    scalars: dict[str, float] = {}
    for owner, states in _inner_optimizer(engine).state.items():
        for key, value in states.items():
            if torch.is_tensor(value) and value.shape == owner.shape:
                shaped[key] = None
            elif value is not None:
                scalars[key] = float(value)
    return list(shaped), scalars


def _link_states(engine: Any) -> None:
    """Let parameters find their optimizer states in ZeRO's flat tensors.

    DeepSpeed does this once, after the first parameter group has been stepped, and so misses the
    states of all further groups.
    """
    if hasattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def parameter_tensors(engine: Any) -> dict[str, torch.Tensor]:
    """The master values of what is trained, by name, on the first process; all must call it together."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in trainable(engine.module).items():
        whole = full_parameter(parameter)
        if dist.get_rank() == 0:
            tensors[PARAMETER + name] = whole.to("cpu", copy=True)
    return tensors


def training_tensors(engine: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Everything that a step changes: tensors by parameter name, and scalars.

    All processes must call it together; the first alone keeps the tensors, since a machine has no
    room for as many copies of the whole training as it has processes.
    """
    from deepspeed.utils import safe_get_full_optimizer_state

    shaped, scalars = _state_kinds(engine)
    partitioned = _flat_partitions(engine) is not None
    inner = _inner_optimizer(engine)
    if shaped:
        _link_states(engine)
    keep = dist.get_rank() == 0
    tensors = parameter_tensors(engine)
    for name, parameter in trainable(engine.module).items():
        for key in shaped:
            value = (
                safe_get_full_optimizer_state(parameter, key) if partitioned else inner.state[parameter][key]
            )
            if keep:
                tensors[f"{OPTIMIZER}{key}/{name}"] = value.to("cpu", copy=True)
    groups = [{k: v for k, v in group.items() if k == "step"} for group in inner.param_groups]
    return tensors, {"states": shaped, "scalars": scalars, "groups": groups}


def restore_parameters(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a model that DeepSpeed has not seen yet the parameters of a checkpoint."""
    import deepspeed

    for name, parameter in trainable(model).items():
        divided = hasattr(parameter, "ds_id")
        with (
            torch.no_grad(),
            deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=divided),
        ):
            parameter.copy_(tensors[PARAMETER + name])


def restore_optimizer(engine: Any, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Give a fresh engine the master weights and optimizer states of a checkpoint.

    Its model must have been through `restore_parameters` before `initialize`.
    """
    shaped, scalars = state["states"], state["scalars"]
    inner, flats = _inner_optimizer(engine), _flat_partitions(engine)
    parameters = trainable(engine.module)
    for owner in parameters.values() if flats is None else flats:
        if shaped or scalars:
            inner.state[owner] = {key: torch.zeros_like(owner) for key in shaped}
            inner.state[owner] |= {key: torch.tensor(value) for key, value in scalars.items()}
    for group, saved in zip(inner.param_groups, state["groups"], strict=True):
        group.update(saved)
    if shaped:
        _link_states(engine)
    for name, parameter in parameters.items():
        if flats is not None:
            _set_master(parameter, tensors[PARAMETER + name])
        for key in shaped:
            value = tensors[f"{OPTIMIZER}{key}/{name}"]
            if flats is None:
                inner.state[parameter][key].copy_(value)
            else:
                _set_master(parameter, value, key)


def _set_master(parameter: nn.Parameter, value: torch.Tensor, state: str | None = None) -> None:
    """Set a parameter's master value, or one of its optimizer states, from the whole tensor."""
    from deepspeed.utils import (
        safe_set_full_fp32_param,
        safe_set_full_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    value = value.to(parameter.device)
    if hasattr(parameter, "ds_id"):
        # ZeRO 3 fills up the last process's part, which DeepSpeed's own setter of whole tensors forgets.
        size, rank = parameter.ds_tensor.numel(), dist.get_rank()  # type: ignore[attr-defined]
        filled = nn.functional.pad(value.flatten(), (0, size * dist.get_world_size() - value.numel()))
        part = filled[size * rank : size * (rank + 1)]
        if state:
            safe_set_local_optimizer_state(parameter, part, state)
        else:
            safe_set_local_fp32_param(parameter, part)
    elif state:
        safe_set_full_optimizer_state(parameter, value, state)
    else:
        safe_set_full_fp32_param(parameter, value)
