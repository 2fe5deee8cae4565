"""Metadata that ImageMagick has written into texts of PNG files, as hexadecimal numbers: EXIF, XMP and others.

Readers apply the orientation in them and show the preview, so that they are treated as the chunks of their own are.

References
----------
https://exiftool.org/TagNames/PNG.html#TextualData ("Raw profile type")
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import NamedTuple

_KEYWORD = "Raw profile type "
_EXIF_START, _XMP_START, _JPEG_START = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"\xff\xd8\xff"


class RawProfiles(NamedTuple):
    """EXIF without its marker, and an XMP packet; None for what is not there."""

    exif: bytes | None = None
    xmp: str | None = None


def take_raw_profiles(text: MutableMapping[str, str]) -> RawProfiles:
    """Remove EXIF and XMP from the texts of a PNG file, by keyword, and return them.

    A profile of Photoshop's resources that holds a preview, which shows the picture before filtering, is removed, too.

    >>> texts = {"Raw profile type exif": "\\nexif\\n      10\\n45786966000049492a00\\n", "Author": "me"}
    >>> take_raw_profiles(texts), texts
    (RawProfiles(exif=b'II*\\x00', xmp=None), {'Author': 'me'})
    """
    found = RawProfiles()
    for keyword in [keyword for keyword in text if keyword.startswith(_KEYWORD)]:
        kind, content = keyword.removeprefix(_KEYWORD).lower(), _content(text[keyword])
        if kind in ("exif", "app1") and content.startswith(_EXIF_START):
            found = found._replace(exif=content.removeprefix(_EXIF_START))
        elif kind in ("xmp", "app1") and content:
            found = found._replace(xmp=content.removeprefix(_XMP_START).decode("utf-8", "replace"))
        elif kind not in ("iptc", "8bim") or _JPEG_START not in content:
            continue
        del text[keyword]
    return found


def _content(value: str) -> bytes:
    """Return the bytes behind a name and a length, each on a line; none if they are no hexadecimal numbers."""
    try:
        return bytes.fromhex("".join(value.strip().split("\n")[2:]))
    except ValueError:
        return b""
