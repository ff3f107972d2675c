"""What stops `sinas up`, in words for the person who typed it."""

from sinas.errors import ConfigurationError


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
