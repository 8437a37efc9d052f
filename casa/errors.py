"""The errors casa raises on purpose, and the exit code each one means on the command line.

A message is one line that says what is wrong, where, and what to do about it.
"""


class CasaError(Exception):
    """The work failed although the call was right (exit code 1)."""

    exit_code = 1


class InputError(CasaError):
    """The call or its input was wrong; doing it again unchanged cannot help (exit code 2)."""

    exit_code = 2


class FrameError(InputError):
    """One frame cannot be used, the next ones may be: a session counts it as failed and goes on."""
