"""Check that dpkg and Python's tarfile read the headers of a tar alike (tar(5), deb(5))."""

from __future__ import annotations

import re
import tarfile

#: Where tarfile reads numbers: mode, uid, gid, size, mtime, checksum, devmajor, devminor.
NUMBERS = ((100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (148, 8), (329, 8), (337, 8))
OCTAL = re.compile(rb" *[0-7]*[ \0]*")


class AmbiguousError(ValueError):
    """A header can be read in two ways."""


class Headers:
    """Follows a tar stream from header to header, and refuses one that dpkg and tarfile read differently.

    Where they differ: tarfile ends the archive at a number that it cannot read, even in a field that dpkg
    ignores. It takes a v7 file for a folder where its name ends in a slash. It adds the prefix, which only
    ustar has, to names of every format. It reads the padding after a long name without a final zero as part
    of the name. Of two long names it takes the first.
    """

    #: The member types of deb(5): files, GNU's long names, and members without content.
    FILE, LONG, EMPTY = b"0", b"LK", b"123456"
    #: Bytes of a long name; more than Linux's PATH_MAX is of no use.
    MAX_LONG = 4096

    def __init__(self) -> None:
        self._content = 0  # bytes of content still to skip
        self._block, self._wanted = b"", tarfile.BLOCKSIZE  # the block being collected, and its full size
        self._long = 0  # bytes of the long name in the block, or 0 where it is a header
        self._waiting: set[int] = set()  # the types of long names that were read for the next header
        self._ended = False

    def follow(self, data: memoryview) -> None:
        """Take the next bytes of the stream. Raises AmbiguousError."""
        while data and not self._ended:
            self._content, data = max(self._content - len(data), 0), data[self._content :]
            missing = self._wanted - len(self._block)
            self._block, data = self._block + data[:missing], data[missing:]
            if len(self._block) == self._wanted:
                if not (self._long_name() if self._long else self._header()):
                    name = self._block[:100].partition(b"\0")[0].decode(errors="replace")
                    raise AmbiguousError(f"the header of {name!r} in its tar can be read in two ways")
                self._block = b""

    def _long_name(self) -> bool:
        clear = self._block[self._long - 1] == 0
        self._long, self._wanted = 0, tarfile.BLOCKSIZE
        return clear

    def _header(self) -> bool:
        header = self._block
        if not any(header):
            self._ended = True
            return True
        kind, ustar = header[156], header[257:263] == b"ustar\0"
        plain = all(OCTAL.fullmatch(header, start, start + size) for start, size in NUMBERS)
        if not plain or kind not in self.FILE + self.LONG + self.EMPTY or (header[345] and not ustar):
            return False
        size = int(header[124:136].strip(b" \0") or b"0", 8)
        padded = size + -size % tarfile.BLOCKSIZE
        if kind in self.LONG:
            clear = 0 < size <= self.MAX_LONG and kind not in self._waiting
            self._waiting.add(kind)
            self._long, self._wanted = size, padded
            return clear
        self._waiting.clear()
        self._content = padded if kind in self.FILE else 0
        return True
