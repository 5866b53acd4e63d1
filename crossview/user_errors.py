"""What a command says when it cannot go on: one message for the person at the command line, without a traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException

from crossview.build import ConfigError
from crossview.callbacks.finite import NonFiniteLossError
from crossview.data.errors import DataError

STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class UserError(Exception):
    """What went wrong, in words for the person at the command line; the cause is attached."""


@contextmanager
def explained() -> Iterator[None]:
    """Turns what a person can mend into a `UserError`; defects keep their traceback.

    Raises:
        UserError: the config or the data cannot be used; says which key or file and what to do.
    """
    try:
        yield
    except DataError as error:
        # From a loader's process it comes with the traceback there in front.
        raise UserError(str(error).rpartition(f"{DataError.__module__}.{DataError.__name__}: ")[2].rstrip()) from error
    except (ConfigError, NonFiniteLossError, MisconfigurationException) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        if error.errno not in STORAGE_FAULTS:
            raise
        raise UserError(f"{error.filename or 'the run folder'} cannot be read or written: {error.strerror}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error)) from error


def _explain(error: HydraException | OmegaConfBaseException) -> str:
    """What went wrong while the config's objects were made, without repeating it for every level of the config."""
    cause = error.__cause__
    if cause is None:
        return str(error)
    if isinstance(cause, DataError | ConfigError):
        return str(cause)
    place = ", ".join(line.removesuffix(":") for line in str(error).splitlines() if line.startswith(("Error", "full")))
    return f"{cause}\n({place})"
