import pytest
import torch
from torch import nn

from realign.artifacts.command import UserError
from realign.engine.deepspeed_setup import build_config, decay_groups


def test_the_batch_is_ours_and_buckets_fit_the_model():
    config = build_config(2, "fp32", processes=3, parameters=1000)
    assert config["train_batch_size"] == 3
    assert config["zero_optimization"]["reduce_bucket_size"] == 1000
    assert build_config(2, "fp32", 1, 10**12)["zero_optimization"]["reduce_bucket_size"] == 50_000_000


def test_deepspeed_does_not_wait_for_the_gpu_to_time_it():
    from deepspeed.utils.config import get_timers_config

    assert not get_timers_config(build_config(2, "bf16", 1, 1000)).enabled


def test_a_users_own_configuration_goes_before_ours():
    own = {
        "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}, "reduce_bucket_size": "auto"},
        "train_batch_size": "auto",
        "gradient_clipping": 0.5,
    }
    config = build_config(0, "fp32", 2, 1000, clip=1.0, own=own)
    assert config["zero_optimization"]["stage"] == 3
    assert config["zero_optimization"]["offload_param"] == {"device": "cpu"}
    assert config["zero_optimization"]["reduce_bucket_size"] == 1000
    assert config["train_batch_size"] == 2
    assert config["gradient_clipping"] == 0.5


def test_a_configuration_that_takes_the_batch_away_is_refused():
    with pytest.raises(UserError, match="gradient_accumulation_steps"):
        build_config(0, "fp32", 1, 1000, own={"gradient_accumulation_steps": 4})


def test_a_scheduler_that_would_do_nothing_is_refused():
    with pytest.raises(UserError, match="the learning rate of every step is the recipe's"):
        build_config(2, "fp32", 1, 1000, own={"scheduler": {"type": "WarmupLR"}})
    assert "scheduler" not in build_config(2, "fp32", 1, 1000, own={"scheduler": "auto"})


def test_bf16_keeps_masters_and_adds_up_in_fp32():
    config = build_config(2, "bf16", 1, 1000)
    assert config["bf16"] == {"enabled": True}
    assert config["data_types"] == {"grad_accum_dtype": "fp32"}
    assert "communication_data_type" not in config
    for stage, once in ((1, False), (2, True), (3, True)):
        config = build_config(stage, "bf16", 2, 1000, reduce_once=once)
        assert config["communication_data_type"] == "fp32"
    with pytest.raises(UserError, match="stage 1, 2 or 3"):
        build_config(0, "bf16", 1, 1000)


def test_only_matrices_decay_and_only_what_trains_is_stepped():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    model[2].weight.requires_grad_(False)
    groups = decay_groups(model, 0.05)
    assert [g["weight_decay"] for g in groups] == [0.05, 0.0]
    assert [p.shape for p in groups[0]["params"]] == [torch.Size([3, 3])]
    assert len(groups[1]["params"]) == 4
