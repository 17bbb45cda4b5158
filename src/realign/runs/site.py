"""A site's own lines (modules, proxies, caches), which every job runs before its command."""

import os
import shlex
from pathlib import Path

from realign.artifacts.command import UserError

VARIABLE = "REALIGN_SITE"


def source_site() -> str:
    """The shell's words that read the file which `REALIGN_SITE` names; none where it names none.

    Modules are written for shells that forgive unset variables and failing commands, so the file is read so.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return ""
    path = Path(given).absolute()
    if not path.is_file():
        raise UserError(f"{VARIABLE}: no file {path}")
    os.environ[VARIABLE] = str(path)  # a job may start in another folder
    return f"set +eu; . {shlex.quote(str(path))}; set -eu; "
