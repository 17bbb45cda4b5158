"""On a GPU: a real lack of memory is known as one, and memory is there again once the error is let go."""

import pytest
import torch

from realign.engine.worker import is_out_of_memory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def allocate(gigabytes: int) -> torch.Tensor:
    return torch.empty(gigabytes, 2**30, dtype=torch.uint8, device="cuda")


def test_a_lack_of_memory_is_known_and_leaves_none_behind():
    free = torch.cuda.mem_get_info()[0]
    with pytest.raises(RuntimeError) as failed:
        allocate(4096)
    assert is_out_of_memory(failed.value)
    half = allocate(free // 2**31)
    assert half.numel() > free // 4
