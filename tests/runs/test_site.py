"""A site's own lines, which jobs run before their command."""

import subprocess

import pytest

from realign.artifacts.command import UserError
from realign.runs import site
from realign.runs.leaving import SHELL_PREFIX


@pytest.fixture(autouse=True)
def clone(tmp_path, monkeypatch):
    """A clone of the workflow without a site's file, and a shell that names none."""
    monkeypatch.delenv(site.VARIABLE, raising=False)
    monkeypatch.setattr(site, "workflow_folder", lambda: tmp_path / "clone")
    return tmp_path / "clone"


def job(command):
    words = ["bash", "-c", SHELL_PREFIX + site.source_site() + command]
    return subprocess.run(words, capture_output=True, text=True)


def test_a_file_beside_the_profile_is_read_before_each_command(clone):
    assert site.source_site() == ""
    file = clone / "workflow/profiles/slurm/site.sh"
    file.parent.mkdir(parents=True)
    file.write_text('export PLACE="here$NOT_SET"\nfalse\n')  # as careless as modules are
    assert job("echo $PLACE").stdout == "here\n"
    assert job("echo $NOT_SET").returncode != 0  # a command is as strict as ever


def test_a_file_that_the_shell_names_goes_over_it(clone, tmp_path, monkeypatch):
    (tmp_path / "my site.sh").write_text("export PLACE=there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(site.VARIABLE, "my site.sh")
    assert job("echo $PLACE").stdout == "there\n"
    monkeypatch.chdir("/")  # where a job of the cluster may begin
    assert job("echo $PLACE").stdout == "there\n"
    monkeypatch.setenv(site.VARIABLE, "gone.sh")
    with pytest.raises(UserError, match=r"REALIGN_SITE: no file /gone\.sh"):
        site.source_site()
