"""Decoders of DICOM's lossless codings, written from the standards and of nothing but them; slow.

Each raises ValueError, IndexError, KeyError or struct.error where a stream is not exactly what its picture
needs: too short, too long, or with a code in no table. They share no code with the product or its libraries.
"""

import struct
from collections.abc import Iterator

import numpy as np


def rle(frame: bytes, rows: int, columns: int, width: int) -> np.ndarray:
    """RLE Lossless (PS3.5, annex G): `width` segments, the most significant byte first -> unsigned values."""
    count, *offsets = struct.unpack_from("<16I", frame)
    if count != width or offsets[0] != 64:
        raise ValueError("header")
    planes = []
    for start, end in zip(offsets[:count], [*offsets[1:count], len(frame)], strict=True):
        segment, plane, position = frame[start:end], bytearray(), 0
        while len(plane) < rows * columns:
            control, position = segment[position], position + 1
            if control < 128:
                if position + control + 1 > len(segment):
                    raise ValueError("a run of literals breaks off")
                plane += segment[position : position + control + 1]
                position += control + 1
            elif control > 128:
                plane += bytes([segment[position]]) * (257 - control)
                position += 1
        if len(plane) != rows * columns or segment[position:] not in (b"", b"\0"):
            raise ValueError("length")
        planes.append(np.frombuffer(bytes(plane), np.uint8).astype(np.uint32))
    total = np.zeros(rows * columns, np.uint32)
    for n, plane in enumerate(planes):
        total += plane << (8 * (width - 1 - n))
    return total.reshape(rows, columns)


def encode_rle(values: np.ndarray) -> bytes:
    """RLE Lossless: runs of equal bytes where there are two or more, else literals, row by row."""
    width, segments = values.dtype.itemsize, []
    planes = values.astype(values.dtype.newbyteorder(">"))[..., None].view(np.uint8)
    for n in range(width):
        segment = bytearray()
        for row in planes[..., n].tolist():
            at = 0
            while at < len(row):
                end = at + 1
                while end < min(len(row), at + 128) and row[end] == row[at]:
                    end += 1
                if end - at == 1:
                    while end < min(len(row), at + 128) and row[end] != row[end - 1]:
                        end += 1
                    segment += bytes([end - at - 1, *row[at:end]])
                else:
                    segment += bytes([257 - (end - at), row[at]])
                at = end
        segments.append(bytes(segment) + bytes(len(segment) % 2))
    offsets = [64 + sum(map(len, segments[:n])) for n in range(width)]
    return struct.pack("<16I", width, *offsets, *[0] * (15 - width)) + b"".join(segments)


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(marker, parameters, position after them) of each segment up to the start of the only scan."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("no start of image")
    position = 2
    while True:
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if data[position] != 0xFF:
            raise ValueError("no marker")
        marker, length = struct.unpack_from(">xBH", data, position)
        segment = data[position + 4 : position + 2 + length]
        position += 2 + length
        yield marker, segment, position
        if marker == 0xDA:
            return


def lossless_jpeg(data: bytes) -> np.ndarray:
    """Lossless JPEG with Huffman codes (ISO/IEC 10918-1, annex H), of one component."""
    tables: dict[int, dict[tuple[int, int], int]] = {}
    interval = 0
    for marker, segment, end in _segments(data):  # noqa: B007
        if marker == 0xC4:
            tables |= dict(_huffman_tables(segment))
        elif marker == 0xDD:
            interval = struct.unpack(">H", segment)[0]
        elif marker == 0xC3:
            bits, height, width, components = struct.unpack_from(">BHHB", segment)
        elif marker in (0xC0, 0xC1, 0xC2, *range(0xC5, 0xD0)):
            raise ValueError("another process")
    if components != 1 or segment[0] != 1 or segment[4] or interval % width:
        raise ValueError("parameters")
    table, predictor, shift = tables[segment[2] >> 4], segment[3], segment[5] & 15
    rows = interval // width or height
    values = np.zeros((height, width), np.int64)
    for number, top in enumerate(range(0, height, rows)):
        block = values[top : top + rows]
        end = _lossless_rows(data, end, table, predictor, 1 << (bits - shift - 1), block)
        last = top + rows >= height
        if data[end : end + 2] != bytes([0xFF, 0xD9 if last else 0xD0 + number % 8]):
            raise ValueError("no marker after an interval")
        end += 2
    if values.max() >= 1 << (bits - shift):
        raise ValueError("a value out of range")
    return values << shift


def _huffman_tables(segment: bytes) -> Iterator[tuple[int, dict[tuple[int, int], int]]]:
    while segment:
        number, counts, table, code, used = segment[0], segment[1:17], {}, 0, 17
        for length, count in enumerate(counts, 1):
            for _ in range(count):
                table[length, code] = segment[used]
                code, used = code + 1, used + 1
            if code > 1 << length:
                raise ValueError("too many codes")
            code <<= 1
        yield number, table
        segment = segment[used:]


def _lossless_rows(
    data: bytes, position: int, table: dict[tuple[int, int], int], predictor: int, middle: int, x: np.ndarray
) -> int:
    """Fill `x` from one interval; returns the position of the marker after it."""
    end, unstuffed = position, bytearray()
    while data[end] != 0xFF or data[end + 1] == 0:
        unstuffed.append(data[end])
        end += 2 if data[end] == 0xFF else 1
    text, at = "".join(f"{byte:08b}" for byte in unstuffed), 0
    for row, column in np.ndindex(*x.shape):
        length = 1
        while (length, int(text[at : at + length], 2)) not in table:
            length += 1
            if length > 16 or at + length > len(text):
                raise ValueError("a code that is in no table")
        size = table[length, int(text[at : at + length], 2)]
        at += length
        difference = 32768 if size == 16 else 0
        if 0 < size < 16:
            difference = int(text[at : at + size], 2)
            if not difference >> (size - 1):
                difference -= 2**size - 1
            at += size
        elif size > 16:
            raise ValueError("category")
        left, above = int(x[row, column - 1]), int(x[row - 1, column])
        corner = int(x[row - 1, column - 1])
        if row == 0:
            guess = left if column else middle
        elif column == 0:
            guess = above
        else:
            guess = (
                left,
                above,
                corner,
                left + above - corner,
                left + ((above - corner) >> 1),
                above + ((left - corner) >> 1),
                (left + above) >> 1,
            )[predictor - 1]
        x[row, column] = (guess + difference) & 0xFFFF
    if not 0 <= len(text) - at < 8:
        raise ValueError("bits missing or left over")
    return end


class _Bits:
    """The bits of a JPEG-LS scan: after FF only seven follow in the next byte (ISO/IEC 14495-1, A.1)."""

    def __init__(self, data: bytes, position: int) -> None:
        text, after_ff = [], False
        while data[position] != 0xFF or data[position + 1] < 0x80:
            byte = data[position]
            text.append(f"{byte:07b}" if after_ff else f"{byte:08b}")
            after_ff = byte == 0xFF
            position += 1
        self.text, self.at, self.end = "".join(text), 0, position

    def read(self, count: int) -> int:
        self.at += count
        if self.at > len(self.text):
            raise ValueError("the scan breaks off")
        return int(self.text[self.at - count : self.at] or "0", 2)

    def golomb(self, k: int, limit: int, qbpp: int) -> int:
        """A.5.3."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > limit:
                raise ValueError("a code that is too long")
        return (zeros << k) + self.read(k) if zeros < limit - qbpp - 1 else self.read(qbpp) + 1


RUN_LENGTHS = [*(n for n in range(4) for _ in range(4)), 4, 4, 5, 5, 6, 6, 7, 7, *range(8, 16)]  # J, A.2.1


def jpeg_ls(data: bytes) -> np.ndarray:
    """JPEG-LS (ISO/IEC 14495-1, annex A), of one component."""
    preset = [0] * 5
    for marker, segment, start in _segments(data):  # noqa: B007
        if marker == 0xF7:
            bits, height, width, components = struct.unpack_from(">BHHB", segment)
        elif marker == 0xF8 and segment[0] == 1:
            preset = list(struct.unpack(">5H", segment[1:]))
        elif 0xC0 <= marker <= 0xDF and marker != 0xDA:
            raise ValueError("another process, or restarts")
    if components != 1 or segment[0] != 1 or segment[2] or segment[4] or segment[5]:
        raise ValueError("parameters")
    scan = _LosslessScan(_Bits(data, start), bits, segment[3], preset)
    values = scan.picture(height, width)
    left = scan.bits.text[scan.bits.at :]
    if len(left) > 7 + 7 * (data[scan.bits.end - 2] == 0xFF) or "1" in left:
        raise ValueError("bits left over")
    if data[scan.bits.end : scan.bits.end + 2] != b"\xff\xd9":
        raise ValueError("no end of image")
    return values


class _LosslessScan:
    """Contexts and codes of a JPEG-LS scan; NEAR may be above 0. Names as in the standard."""

    def __init__(self, stream: _Bits, precision: int, near: int, preset: list[int]) -> None:
        self.bits, self.near = stream, near
        self.maxval = preset[0] or 2**precision - 1
        self.range = (self.maxval + 2 * near) // (2 * near + 1) + 1
        self.qbpp = (self.range - 1).bit_length()
        bpp = max(2, self.maxval.bit_length())
        self.limit = 2 * (bpp + max(8, bpp))
        self.reset = preset[4] or 64
        low = near + 1  # C.2.4.1.1.1
        self.thresholds: list[int] = []
        for given, basic, least, slope in zip(preset[1:4], (3, 7, 21), (2, 3, 4), (3, 5, 7), strict=True):
            if self.maxval >= 128:
                factor = (min(self.maxval, 4095) + 128) // 256
                default = factor * (basic - least) + least + slope * near
            else:
                default = max(least, basic // (256 // (self.maxval + 1)) + slope * near)
            low = given or (low if default > self.maxval or default < low else default)
            self.thresholds.append(low)
        self.A = [max(2, (self.range + 32) // 64)] * 367
        self.B, self.C, self.N, self.Nn, self.run = [0] * 367, [0] * 367, [1] * 367, [0] * 367, 0

    def picture(self, height: int, width: int) -> np.ndarray:
        lines, above, corner = [], [0] * (width + 2), 0
        for _ in range(height):
            line = [above[1], *[0] * width, 0]
            above = [corner, *above[1 : width + 1], above[width]]
            corner, column = line[0], 1
            while column <= width:
                a, b, c, d = line[column - 1], above[column], above[column - 1], above[column + 1]
                gradients = [self._quantized(d - b), self._quantized(b - c), self._quantized(c - a)]
                if any(gradients):
                    line[column] = self._regular(gradients, a, b, c)
                    column += 1
                else:
                    column = self._run(line, above, column, width)
            lines.append(line[1 : width + 1])
            above = line
        return np.array(lines)

    def _quantized(self, difference: int) -> int:
        size = abs(difference)
        level = 0 if size <= self.near else 1 + sum(size >= threshold for threshold in self.thresholds)
        return level if difference >= 0 else -level

    def _regular(self, gradients: list[int], a: int, b: int, c: int) -> int:
        sign = -1 if next(filter(None, gradients)) < 0 else 1
        q = sign * (81 * gradients[0] + 9 * gradients[1] + gradients[2])
        guess = min(a, b) if c >= max(a, b) else max(a, b) if c <= min(a, b) else a + b - c
        guess = min(max(guess + sign * self.C[q], 0), self.maxval)
        k = self._k(self.N[q], self.A[q])
        mapped = self.bits.golomb(k, self.limit, self.qbpp)
        error = mapped // 2 if mapped % 2 == 0 else -(mapped + 1) // 2
        if k == 0 and self.near == 0 and 2 * self.B[q] <= -self.N[q]:
            error = -error - 1
        self.B[q] += error * (2 * self.near + 1)
        self.A[q] += abs(error)
        if self.N[q] == self.reset:
            self.A[q], self.B[q], self.N[q] = self.A[q] >> 1, self.B[q] >> 1, self.N[q] >> 1
        self.N[q] += 1
        if self.B[q] <= -self.N[q]:
            self.B[q] = max(self.B[q] + self.N[q], 1 - self.N[q])
            self.C[q] = max(self.C[q] - 1, -128)
        elif self.B[q] > 0:
            self.B[q] = min(self.B[q] - self.N[q], 0)
            self.C[q] = min(self.C[q] + 1, 127)
        return self._value(guess, sign * error)

    def _k(self, count: int, total: int) -> int:
        k = 0
        while count << k < total:
            k += 1
        return k

    def _value(self, guess: int, error: int) -> int:
        value, period = guess + error * (2 * self.near + 1), self.range * (2 * self.near + 1)
        if value < -self.near:
            value += period
        elif value > self.maxval + self.near:
            value -= period
        return min(max(value, 0), self.maxval)

    def _run(self, line: list[int], above: list[int], column: int, width: int) -> int:
        """Fill a run and the sample that interrupts it; returns the next column."""
        a, left = line[column - 1], width + 1 - column
        while left and self.bits.read(1):
            length = min(left, 1 << RUN_LENGTHS[self.run])
            if length == 1 << RUN_LENGTHS[self.run]:
                self.run = min(self.run + 1, 31)
            line[column : column + length] = [a] * length
            column, left = column + length, left - length
        if not left:
            return column
        j = RUN_LENGTHS[self.run]
        length = self.bits.read(j)
        if length >= left:
            raise ValueError("a run beyond the line")
        line[column : column + length] = [a] * length
        column += length
        self.run = max(self.run - 1, 0)
        line[column] = self._interruption(a, above[column], self.limit - j - 1)
        return column + 1

    def _interruption(self, a: int, b: int, limit: int) -> int:
        kind = int(abs(a - b) <= self.near)
        q = 365 + kind
        k = self._k(self.N[q], self.A[q] + (self.N[q] >> 1) * kind)
        mapped = self.bits.golomb(k, limit, self.qbpp)
        odd = (mapped + kind) & 1
        error = (mapped + kind + odd) // 2
        if odd == (k != 0 or 2 * self.Nn[q] >= self.N[q]):
            error = -error
        self.Nn[q] += error < 0
        self.A[q] += (mapped + 1 - kind) >> 1
        if self.N[q] == self.reset:
            self.A[q], self.N[q], self.Nn[q] = self.A[q] >> 1, self.N[q] >> 1, self.Nn[q] >> 1
        self.N[q] += 1
        return self._value(a if kind else b, -error if not kind and a > b else error)
