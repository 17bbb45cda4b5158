"""What the SLURM executor makes of jobs that SLURM took away."""

import asyncio

import pytest
import snakemake_executor_plugin_slurm as executor

from realign.runs.states import as_ended, read_states_as_ended, telling_the_ended


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("PREEMPTED", "CANCELLED"),
        ("CANCELLED by 1000", "CANCELLED"),
        ("RUNNING", "RUNNING"),
        ("NODE_FAIL", "NODE_FAIL"),
        ("", ""),
    ],
)
def test_a_state_is_read_by_a_name_that_the_executor_knows(said, read):
    assert as_ended(said) == read


def test_answers_are_put_right_and_a_failed_question_stays_one():
    answers = [({"7": "PREEMPTED", "8": "PENDING"}, 0.1), (None, None), ({}, 0.2)]

    async def query(command, logger):
        return answers.pop(0)

    ask = telling_the_ended(query)
    found = [asyncio.run(ask("squeue", None)) for _ in range(3)]
    assert found == [({"7": "CANCELLED", "8": "PENDING"}, 0.1), (None, None), ({}, 0.2)]


def test_the_executor_asks_through_us_once(monkeypatch):
    monkeypatch.setattr(executor, "query_job_status", executor.query_job_status)
    read_states_as_ended()
    ours = executor.query_job_status
    assert ours.__module__ == "realign.runs.states"
    read_states_as_ended()
    assert executor.query_job_status is ours
