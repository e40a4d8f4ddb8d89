"""Names of images in files: whatever they were, each is one name, and the two differ."""

from __future__ import annotations

import pytest

from lfnet.app.downloads import picture_names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a.jpg", "b.jpg"), ("a.jpg", "b.jpg")),
        (("a.jpg", "a.jpg"), ("a.jpg", "second-a.jpg")),
        (("C:\\photos\\a.jpg", "/photos/deep/b.jpg"), ("a.jpg", "b.jpg")),
        (("../..", "."), ("first", "second")),
        (("", "\0\n"), ("first", "second")),
        ((), ("first", "second")),
        (("é ü.jpg", "x" * 500 + ".jpg"), ("é ü.jpg", "x" * 116 + ".jpg")),
    ],
)
def test_names_are_made_fit(names: tuple[str, ...], expected: tuple[str, str]) -> None:
    assert picture_names(names) == expected
