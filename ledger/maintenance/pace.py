"""How long to wait between two runs: the same after each success, longer after each failure."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

_FIRST_PAUSE: Final = timedelta(seconds=1)


class Pace:
    """The pause before the next run."""

    def __init__(self, every: timedelta) -> None:
        self._every = every
        self._after_failure = min(_FIRST_PAUSE, every)
        self.pause = every

    def succeeded(self) -> None:
        """The next run is due at the ordinary time."""
        self._after_failure = min(_FIRST_PAUSE, self._every)
        self.pause = self._every

    def failed(self) -> None:
        """Try again soon, and the more failures in a row, the less soon."""
        self.pause = self._after_failure
        self._after_failure = min(2 * self._after_failure, self._every)
