"""Keep large texts compressed in memory. The text of a baseline file of a thousand tests has many megabytes."""

from __future__ import annotations

import zlib
from hashlib import blake2b
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Fast compression. The lines of a baseline repeat each other, so they become small anyway.
_LEVEL = 1
#: The number of bytes that are read at once.
_PIECE = 2**16


class PackedText:
    """A text that is given in pieces and kept compressed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        digest, packer = blake2b(), zlib.compressobj(_LEVEL)
        self._packed: list[bytes] = []
        for piece in pieces:
            digest.update(piece)
            self._packed.append(packer.compress(piece))
        self._packed.append(packer.flush())
        self.digest = digest.digest()

    def pieces(self) -> Iterator[bytes]:
        """Yield the text again, in pieces."""
        unpacker = zlib.decompressobj()
        for packed in self._packed:
            yield unpacker.decompress(packed)
        yield unpacker.flush()


class FileState(NamedTuple):
    """The content of a file, by its digests. Two states are equal if the bytes of the files are equal."""

    #: The digest of the bytes; None if the file does not exist.
    digest: bytes | None = None
    #: The digest of the bytes with the line ends of Unix.
    with_unix_line_ends: bytes | None = None

    @staticmethod
    def digest_of(stream: BinaryIO) -> bytes:
        """Return the digest of a file. Only a piece of the file is in memory at a time."""
        digest = blake2b()
        while piece := stream.read(_PIECE):
            digest.update(piece)
        return digest.digest()

    @classmethod
    def of(cls, data: bytes) -> FileState:
        """Return the state of a file with these bytes."""
        return cls(blake2b(data).digest(), blake2b(data.replace(b"\r\n", b"\n")).digest())

    def holds(self, text: PackedText | None) -> bool:
        """Return whether the file has this text, with any line ends. For None, return whether the file is missing."""
        return (None if text is None else text.digest) in (self.digest, self.with_unix_line_ends)


class StateOfLines:
    """Yields the lines of a file whose lines all have the line ends of Unix, and computes the state of the file."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self._digest = blake2b()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines, and add each line to the digest."""
        for line in self._lines:
            self._digest.update(line)
            yield line

    @property
    def state(self) -> FileState:
        """The state of the file, after all lines were read."""
        digest = self._digest.digest()
        return FileState(digest, digest)
