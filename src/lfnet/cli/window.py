"""A window that shows frames, by the Tk that comes with Python."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfnet.errors import UserError


class Window:
    """Shows one frame after the other, until q, Escape or its cross is pressed.

    Args:
        title: of the window.
        space: called when the space bar is pressed.

    Raises:
        UserError: there is no screen, or Python came without Tk.
    """

    def __init__(self, title: str, space: Callable[[], None]) -> None:
        remedy = "write a clip instead: -o out.mp4"
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:
            raise UserError(f"a window needs Python's tkinter, which is not installed; {remedy}") from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise UserError(f"no screen to show a window on; {remedy}") from error
        self._make_photo = ImageTk.PhotoImage
        self._root.title(title)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self.open = True
        for key in ("q", "<Escape>"):
            self._root.bind(key, lambda event: self._close())
        self._root.bind("<space>", lambda event: space())
        self._root.protocol("WM_DELETE_WINDOW", self._close)

    def show(self, image: NDArray[np.uint8]) -> None:
        """Show a frame, (H, W, 3) RGB, and take keys."""
        self._photo = self._make_photo(Image.fromarray(image))  # Tk does not keep it.
        self._label.configure(image=self._photo)
        self._root.update()

    def _close(self) -> None:
        self.open = False
        self._root.destroy()
