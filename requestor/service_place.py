"""Where a point's service is reached, and what it means when no answer comes from there: for both clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import HostError, NoAnswerError

CONNECT_TIMEOUT_S = 3.0
Place = Path | tuple[str, int]
"""Path of a Unix socket, or (address, TCP port)."""


def place_name(service: Place) -> str:
    """How errors call it."""
    return str(service) if isinstance(service, Path) else f"{service[0]} tcp port {service[1]}"


def refused(name: str, error: OSError) -> HostError | NoAnswerError:
    """What to raise when no connection came about."""
    if isinstance(error, TimeoutError):
        return NoAnswerError(
            f"service: got {name}, expected a measurement point to answer in {CONNECT_TIMEOUT_S:g} s"
        )
    reason = (error.strerror or str(error)).lower()
    return HostError(f"service: got {name}, expected a measurement point there ({reason})")


@contextmanager
def an_answer_or_none(name: str, timeout_s: float, give_up: Callable[[], None]) -> Iterator[None]:
    """Give the connection up when a question has no answer: a late one would be taken for the next question's.

    Raises:
        NoAnswerError: the time was up.
        HostError: the connection broke.
    """
    try:
        yield
    except TimeoutError as error:
        give_up()
        raise NoAnswerError(f"service {name}: no answer within {timeout_s:g} s") from error
    except OSError as error:
        give_up()
        raise HostError(f"service {name}: {(error.strerror or str(error)).lower()}") from error
    except BaseException:
        give_up()
        raise
