"""Sample the mutants of a Cosmic Ray session, and count those that a test noticed.

It runs in Cosmic Ray's environment:

python mutants.py sample SESSION COUNT SEED
python mutants.py score SESSION
"""

from __future__ import annotations

import random
import sys

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkItem, WorkResult


def _place(item: WorkItem) -> tuple[object, ...]:
    """Where the mutant is: the same in every session, unlike its id."""
    (mutation,) = item.mutations
    return mutation.start_pos, mutation.operator_name, mutation.occurrence


def sample(session: str, count: str, seed: str) -> None:
    """Skip all mutants but `count`."""
    with use_db(session, mode=WorkDB.Mode.open) as db:
        mutants = sorted(db.pending_work_items, key=_place)
        kept = {item.job_id for item in random.Random(seed).sample(mutants, min(int(count), len(mutants)))}
        skipped = WorkResult(worker_outcome=WorkerOutcome.SKIPPED, output="not in the sample")
        db.set_multiple_results([item.job_id for item in mutants if item.job_id not in kept], skipped)
    print(f"{len(kept)} of {len(mutants)} mutants, seed {seed}")


def score(session: str) -> None:
    with use_db(session, mode=WorkDB.Mode.open) as db:
        ran = [result for _, result in db.results if result.worker_outcome != WorkerOutcome.SKIPPED]
    killed = sum(result.is_killed for result in ran)
    print(f"{killed} of {len(ran)} mutants were noticed: {killed / max(len(ran), 1):.0%}")


if __name__ == "__main__":
    if sys.argv[1] == "sample":
        sample(*sys.argv[2:])
    else:
        score(*sys.argv[2:])
