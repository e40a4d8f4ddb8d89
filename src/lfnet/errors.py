"""What goes wrong by what a user gave: the base of every error whose message is meant for users, and its one line."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user can mend; the message names it, what was expected, what came, and the likely remedy."""


class UsageError(UserError):
    """Options that are unknown, can't be meant, or don't go together: the command ends with exit code 2."""


def one_line(error: BaseException | str) -> str:
    """What an error says, without its line breaks; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
