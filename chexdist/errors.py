"""The two ways in which a command ends badly, and the exit codes that say so."""


class UserError(Exception):
    """The user's mistake: the message says what, where, the rule and the cure. Exit code 2."""

    exit_code = 2


class WorkError(Exception):
    """The work could not be finished, through no fault of the command line. Exit code 1."""

    exit_code = 1


class AgreedError(WorkError):
    """A `WorkError` that all ranks raise at once; rank 0 reports it."""


EXIT_STOPPED_EARLY = 75
