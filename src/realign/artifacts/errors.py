"""How work ends that does not end well, for whoever started it."""


class UserError(Exception):
    """Something that the user can put right; shown without a traceback."""


class NodeError(UserError):
    """Something is wrong with the machine that a job came to; on another one it may do better."""


class Interrupted(Exception):
    """The job was asked to leave and has saved its work; run it again to continue."""

    exit_code = 75  # EX_TEMPFAIL: distinct from failure, so that a scheduler can requeue
