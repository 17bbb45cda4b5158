"""bf16 gradients at every ZeRO stage: as exact as one bf16 pass, however many chunks they come from.

Two yardsticks. Against fp32 autograd of the whole batch, a gradient's error must be that of a bf16
pass of one chunk. Against ZeRO 1, which adds up the same chunks' bf16 gradients in fp32 and sends them
in fp32, only what a stage rounds on the way may differ: adding up in bf16 would show.
"""

import itertools
import shutil

import pytest
import torch
from transformers import AutoModel

from gradient_cases import BATCHES, distance, measure, plain_run

CHUNKED, WHOLE = 33, 10**6
ROUNDING = 2**-8  # of one number to bf16: the largest relative error


@pytest.fixture(scope="module")
def backbone(tiny_backbone, tmp_path_factory):
    """The tiny backbone with weights that bf16 holds exactly: the model is the same in both precisions."""
    place = shutil.copytree(tiny_backbone, tmp_path_factory.mktemp("bf16") / "backbone")
    model = AutoModel.from_pretrained(place, dtype=torch.float32)
    model.to(torch.bfloat16).to(torch.float32).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def exact(backbone):
    torch.set_num_threads(1)
    found, _ = plain_run(backbone, BATCHES["negatives"][:1], "sgd")
    return gradient(found)


def gradient(found):
    """The whole gradient as one vector."""
    parts = sorted((name, value) for name, value in found.items() if name.startswith("gradient/"))
    return torch.cat([value.float().flatten() for _, value in parts])


def case(stage, once=False, budget=CHUNKED, checkpointing=False, packed=False, kept=0):
    return {
        "stage": stage,
        "precision": "bf16",
        "data": "first",
        "optimizer": "sgd",
        "budget": budget,
        "reduce_once": once,
        "checkpointing": checkpointing,
        "settings": {"attn_implementation": "packed"} if packed else {},
        "kept": kept,
        "loss": {"temperature": 0.05},
    }


def table(rich):
    """Cases by name, each with the names of its two yardsticks: one bf16 pass, and ZeRO 1."""
    cases, against = {}, {}
    shapes = itertools.product((False, True), (False, True)) if rich else [(False, False)]
    for checkpointing, packed in shapes:
        more = {"checkpointing": checkpointing, "packed": packed}
        name = f"{'checkpointed' if checkpointing else 'stored'}-{'packed' if packed else 'padded'}"
        cases[f"{name}-pass"] = case(1, budget=WHOLE, **more)
        cases[f"{name}-zero1"] = case(1, **more)
        for stage, once in itertools.product((2, 3), (False, True)):
            way = f"{name}-zero{stage}-{'once' if once else 'chunks'}"
            cases[way] = case(stage, once, **more)
            against[way] = (f"{name}-pass", f"{name}-zero1")
    return cases, against


def check(results, cases, against, exact, processes, equal=1e-6):
    found = {name: gradient(tensors) for name, (tensors, _) in results.items()}
    for name, (single, summed) in against.items():
        chunks = results[name][1][0]["chunks"]
        assert chunks > 5
        assert results[single][1][0]["chunks"] == 1
        plain, off = distance(found[single], exact), distance(found[name], exact)
        assert off <= 1.25 * plain, (name, off, plain)
        # ZeRO 3 sends a step's sum in fp32, and a lone process sends nothing: nothing is rounded.
        stage, once = cases[name]["stage"], cases[name]["reduce_once"]
        rounds_nothing = (stage == 3 and once) or (processes == 1 and not once)
        apart = distance(found[name], found[summed])
        assert apart <= (equal if rounds_nothing else ROUNDING / 2), (name, apart)
        print(f"{processes} {name}: {off:.4f} of exact (one pass {plain:.4f}), {apart:.1e} of ZeRO 1")


def run(backbone, place, cases, processes):
    return measure(backbone, place, cases, processes, batches={"first": BATCHES["negatives"][:1]})


def test_chunks_add_up_in_fp32_on_two_processes(backbone, tmp_path, exact):
    cases, against = table(rich=False)
    check(run(backbone, tmp_path, cases, 2), cases, against, exact, 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.long), 2])
def test_the_whole_table_in_bf16(backbone, tmp_path, exact, processes):
    cases, against = table(rich=True)
    check(run(backbone, tmp_path, cases, processes), cases, against, exact, processes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.timeout(1200)
def test_the_whole_table_in_bf16_on_a_gpu(backbone, tmp_path, exact):
    """With NCCL; some of a GPU's kernels add up in no fixed order."""
    cases, against = table(rich=True)
    check(run(backbone, tmp_path, cases, 1), cases, against, exact, 1, equal=ROUNDING / 2)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.timeout(1200)
def test_the_whole_table_in_bf16_on_two_gpus(backbone, tmp_path, exact):
    cases, against = table(rich=True)
    check(run(backbone, tmp_path, cases, 2), cases, against, exact, 2, equal=ROUNDING / 2)
