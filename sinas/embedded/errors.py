"""What stops `sinas up`, in words for the person who typed it."""

from sinas.errors import ConfigurationError, SinasError


class StartupError(ConfigurationError):
    """A step of the start failed.

    Args:
        step: Name of the step, as the progress lines show it.
        cause: What happened, one sentence.
        fix: What to do about it, one sentence.
    """

    def __init__(self, step: str, cause: str, fix: str) -> None:
        """Build the message `step: cause fix`."""
        super().__init__(f"{step}: {cause} {fix}")
        self.step = step
        self.cause = cause
        self.fix = fix


def first(errors: BaseExceptionGroup[SinasError]) -> SinasError:
    """The first error of a group of groups: what a person should read about."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, SinasError)
    return error
