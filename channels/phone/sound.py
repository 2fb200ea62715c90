"""Whether anything is said in a recording."""

from __future__ import annotations

import sys
from array import array
from struct import unpack_from

AUDIBLE = 128
"""The highest sample of what nobody can hear: 48 dB below full scale, the noise of a line. The
softest voice is louder."""

_PCM = 1
_BLOCK = 32_768
"""Samples looked at in one go: whoever waits for the interpreter waits for no more."""


def is_silent(content: bytes) -> bool:
    """Whether a WAV file of 16-bit PCM is silent from beginning to end. What is no such file
    is not."""
    samples = _samples(content)
    if samples is None:
        return False
    for first in range(0, len(samples), _BLOCK):
        block = samples[first : first + _BLOCK]
        if max(block) > AUDIBLE or min(block) < -AUDIBLE:
            return False
    return True


def _samples(content: bytes) -> array[int] | None:
    """The samples of a RIFF file (Microsoft, "Multimedia Programming Interface", 1991)."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    position, pcm = 12, False
    while position + 8 <= len(content):
        name, size = unpack_from("<4sI", content, position)
        position += 8
        if name == b"fmt " and position + 16 <= len(content):
            kind, _channels, _rate, _bytes, _align, bits = unpack_from("<HHIIHH", content, position)
            pcm = kind == _PCM and bits == 16
        elif name == b"data":
            if not pcm:
                return None
            found = content[position : position + size]
            samples = array("h", found[: len(found) // 2 * 2])
            if sys.byteorder == "big":
                samples.byteswap()
            return samples
        position += size + size % 2
    return None
