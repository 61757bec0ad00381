"""`python mutants.py SESSION COUNT SEED`: sample the mutants of a Cosmic Ray session, and skip the others.

It runs in Cosmic Ray's environment.
"""

from __future__ import annotations

import random
import sys

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkItem, WorkResult


def _place(item: WorkItem) -> tuple[object, ...]:
    """What is the same in every session; job ids are not."""
    (mutation,) = item.mutations
    return mutation.start_pos, mutation.operator_name, mutation.occurrence


def main(session: str, count: str, seed: str) -> None:
    with use_db(session, mode=WorkDB.Mode.open) as db:
        mutants = sorted(db.pending_work_items, key=_place)
        sample = random.Random(seed).sample(mutants, min(int(count), len(mutants)))
        kept = {item.job_id for item in sample}
        skipped = WorkResult(worker_outcome=WorkerOutcome.SKIPPED, output="not in the sample")
        db.set_multiple_results([item.job_id for item in mutants if item.job_id not in kept], skipped)
    print(f"{len(kept)} of {len(mutants)} mutants, seed {seed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
