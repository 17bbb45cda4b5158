"""How work ends that does not end well, for whoever started it."""

KEPT = "what was finished is kept"  # in the last words of a job that was stopped; a run knows it by them


class UserError(Exception):
    """Something that the user can put right; shown without a traceback."""


class NodeError(UserError):
    """Something is wrong with the machine that a job came to; on another one it may do better."""


class Interrupted(Exception):
    """The job was asked to leave and has saved its work; the message says where it stands."""

    exit_code = 75  # EX_TEMPFAIL: distinct from failure, so that a scheduler can requeue
