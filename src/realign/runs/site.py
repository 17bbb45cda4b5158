"""A site's own lines (modules, proxies, caches), which every job runs before its command."""

import os
import shlex
from pathlib import Path

from realign.artifacts.command import UserError
from realign.runs.flow import workflow_folder

VARIABLE = "REALIGN_SITE"
BESIDE_THE_PROFILE = Path("workflow", "profiles", "slurm", "site.sh")


def source_site() -> str:
    """The shell's words that read the site's file: the one that `REALIGN_SITE` names, or that by the profile.

    Modules are written for shells that forgive unset variables and failing commands, so the file is read so.
    """
    given = os.environ.get(VARIABLE)
    path = Path(given).absolute() if given else workflow_folder() / BESIDE_THE_PROFILE
    if not path.is_file():
        if given:
            raise UserError(f"{VARIABLE}: no file {path}")
        return ""
    if given:
        os.environ[VARIABLE] = str(path)  # a job may start in another folder
    return f"set +eu; . {shlex.quote(str(path))}; set -eu; "
