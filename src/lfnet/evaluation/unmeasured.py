"""What can't be measured is said in a line and left out; the rest goes on."""

from __future__ import annotations

from lfnet.errors import UserError


class Unmeasured(UserError):
    """A method has no features of a picture: one line that says which, why, and the remedy."""
