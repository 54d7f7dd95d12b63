"""What stops a command: the user's mistakes (exit 2) and work that could not be finished (exit 1)."""


class UserError(Exception):
    """The caller's mistake: one or two lines say what was wrong, where, and the cure. Exit 2."""


class WorkError(Exception):
    """Work that could not be finished or a check that failed, though the call was right. Exit 1."""
