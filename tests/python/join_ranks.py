"""A rank in Python: takes part in the sum of tests/scale/ranks.rs, with torch.distributed in the place of the program, and
prints the bits that it finds. Started by tests/scale/launchers.rs, which says the place of this rank in the environment."""

import datetime
import os
import time

import torch
import torch.distributed as dist

TIMEOUT = datetime.timedelta(seconds=60)
LENGTH, SHARDS = 1001, 8


def term(shard):
    steps = torch.arange(LENGTH, dtype=torch.float32)
    return (steps * (shard + 1) * 0.37).sin() * 10.0 ** ((shard * 5) % 8)


def tree(terms):
    """The sum of 2^n terms in the order of a binary tree."""
    while len(terms) > 1:
        terms = [left + right for left, right in zip(terms[::2], terms[1::2], strict=True)]
    return terms[0]


def main():
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False, timeout=TIMEOUT, wait_for_workers=False)
    store = dist.PrefixStore("gist", store)
    store.set(f"here/{rank}", f"rank {rank} in Python")
    while not all(store.check([f"here/{other}"]) for other in range(count)):
        time.sleep(0.02)
    group = dist.ProcessGroupGloo(store, rank, count, TIMEOUT)
    assert count == 2, "more ranks add in two exchanges"
    each = SHARDS // count
    own = tree([term(shard) for shard in range(rank * each, (rank + 1) * each)]).view(torch.uint8)
    both = torch.empty(count * own.numel(), dtype=torch.uint8)
    group._allgather_base(both, own).wait()
    found = tree(list(both.view(torch.float32).view(count, LENGTH)))
    store.set(f"end/{rank}", "")
    bits = "".join(f"{number & 0xFFFFFFFF:08x}" for number in found.view(torch.int32).tolist())
    print(f"\na rank told: {bits}")


main()
