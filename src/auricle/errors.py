"""Every error Auricle raises on purpose.

One root, and each leaf is the matching builtin too, so that ``except ValueError`` keeps working.
A message says what happened, with which value and where, and what to do.
"""

MOST_BYTES = 1800  # of a message


class AuricleError(Exception):
    """The root of all errors that Auricle raises on purpose.

    Its message is one printable line of bounded length, whatever names and values went into it.
    """

    def __init__(self, message: object = "", *others: object) -> None:
        super().__init__(one_line(str(message)), *others)


class AudioError(AuricleError, ValueError):
    """Audio that cannot be read, holds no sound, or holds samples that are not numbers.

    `reason` is one of a few short ones, by which such errors are counted.
    """

    def __init__(self, message: str = "", reason: str = "cannot be decoded") -> None:
        super().__init__(message)
        self.reason = reason


class CheckpointError(AuricleError, ValueError):
    """A checkpoint that is damaged, unsafe, incomplete, or of a family Auricle does not run."""


class ModelNotFound(AuricleError, FileNotFoundError):
    """A model name that neither the disk, the local cache nor the hub knows."""


class ConfigError(AuricleError, ValueError):
    """An option or configuration key that is unknown, or that contradicts another one."""


class ManifestError(AuricleError, ValueError):
    """A manifest row that cannot be read; the message names the file and the line."""


class MissingExtra(AuricleError, ImportError):
    """An optional package is not installed; the message gives the command that installs it."""


class NonFiniteLoss(AuricleError, ArithmeticError):
    """A training's loss or gradients are no numbers any more; the message names the batch."""


class WorkerLost(AuricleError, RuntimeError):
    """A process that works for this one was killed; most often for its memory."""


class Overloaded(AuricleError, RuntimeError):
    """The service has no room for this request now; try again later."""


def one_line(text: str, most: int = MOST_BYTES) -> str:
    """`text` without breaks, control characters escaped; of a long one beginning and end."""
    if not text.isprintable():
        text = escaped(" ".join(text.split("\n")))
    whole = text.encode()
    if len(whole) <= most:
        return text
    half = most // 2 - 3
    return " ... ".join(part.decode(errors="ignore") for part in (whole[:half], whole[-half:]))


def escaped(name: str) -> str:
    """A name with control characters and line breaks as Python writes them, to be printed."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def first_line(error: BaseException) -> str:
    """What another library's error says, in 200 characters; its kind where it says nothing."""
    return one_line(str(error).strip().partition("\n")[0][:200]) or type(error).__name__
