"""Scenes that `lfnet prepare` made: what is in them, and the training pairs drawn from them."""
