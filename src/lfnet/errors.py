"""What goes wrong by what a user gave: the base of every error whose message is meant for users."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user can mend; the message names it, what was expected, what came, and the likely remedy."""
