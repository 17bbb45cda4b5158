"""What a site does to a run: limits on submissions, a controller that goes away, settings that it refuses."""

import copy
import time

import pytest

from micro_study import LOCAL, STUDY, TARGETS, THROUGH_SLURM, until

pytestmark = [pytest.mark.slurm, pytest.mark.long, pytest.mark.timeout(1200)]


def test_submissions_wait_where_the_site_has_no_room_and_fail_at_once_where_it_refuses(limited, place):
    there = place("there", copy.deepcopy(STUDY))

    # Refused for good: one attempt of each job, the setting named, and nothing of the submission itself.
    said = there.run(
        *THROUGH_SLURM, "--default-resources", "slurm_account=nobody", "--", "all_train", well=False
    )
    assert "SLURM refuses this job" in said
    assert "is tried again" not in said
    assert "change resources.rules." in said
    assert "base64" not in there.status()

    # What would never start is not even submitted.
    study = copy.deepcopy(STUDY)
    study["resources"] = {"rules": {"train": {"partition": "gpuu"}}}
    wrong = place("wrong", study)
    said = wrong.run(*THROUGH_SLURM, "--", "all_train", well=False)
    assert "resources.rules.train: no partition 'gpuu' (cpu, gpu)" in said
    assert wrong.submitted() == 0

    # Refused for now: two jobs at a time and a controller that is away. All is made, and no attempt spent.
    limited.limit_jobs(2)
    run = there.start(*THROUGH_SLURM, "--retries", "0", "--", *TARGETS)
    until(lambda: "SLURM takes no more jobs for now" in there.said(), "a refused submission", 240)
    limited.take_away_controller()
    time.sleep(25)
    limited.bring_back_controller()
    assert run.wait(900) == 0, there.said()[-6000:]
    assert "AssocMaxSubmitJobLimit" in there.said()
    assert "Nothing to be done" in there.run(*LOCAL, "--", *TARGETS)
