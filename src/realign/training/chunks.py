"""How the texts of a batch are divided into chunks: little padding, few chunks, bounded memory."""

from collections.abc import Sequence

import numpy as np

# What starting a chunk costs, as a share of a full one: more chunks pad less and launch more.
OVERHEAD = 1 / 16


def plan_chunks(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Chunks of text numbers, longest texts first, with the least padding plus overhead there is.

    A chunk's texts times its longest one stay within `budget` tokens; a text longer than that is a
    chunk of its own. The best division of the sorted texts is found exactly, from the end.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    longest = np.array([max(1, lengths[i]) for i in order], np.int64)
    count, overhead = len(order), budget * OVERHEAD
    cost = np.zeros(count + 1)
    size = np.zeros(count, np.int64)
    for first in range(count - 1, -1, -1):
        most = min(max(1, budget // int(longest[first])), count - first)
        sizes = np.arange(1, most + 1)
        costs = sizes * longest[first] + overhead + cost[first + 1 : first + most + 1]
        best = most - 1 - int(costs[::-1].argmin())  # the largest of equally good ones
        cost[first], size[first] = costs[best], sizes[best]
    chunks, first = [], 0
    while first < count:
        chunks.append(order[first : first + int(size[first])])
        first += int(size[first])
    return chunks
