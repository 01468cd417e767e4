"""Pictures for tests of editors, with nothing but the standard library: PNG and uncompressed TIFF in, PNG and an ICC profile out."""
import struct
import zlib


class Picture:
    """width x height x channels samples as numbers, in one flat list; scale is what 1.0 is."""

    def __init__(self, width, height, channels, samples, scale):
        self.width, self.height, self.channels, self.samples, self.scale = width, height, channels, samples, scale

    def pixel(self, x, y):
        at = (y * self.width + x) * self.channels
        return tuple(self.samples[at:at + self.channels])

    def changes(self, other, rect):
        """How many pixels differ inside and outside rect = (x, y, width, height)."""
        assert (self.width, self.height, self.channels) == (other.width, other.height, other.channels), \
            f"{self.width}x{self.height}x{self.channels} and {other.width}x{other.height}x{other.channels}"
        inside = outside = 0
        for y in range(self.height):
            for x in range(self.width):
                if self.pixel(x, y) != other.pixel(x, y):
                    if rect[0] <= x < rect[0] + rect[2] and rect[1] <= y < rect[1] + rect[3]:
                        inside += 1
                    else:
                        outside += 1
        return inside, outside


def _chunks(data):
    at = 8
    while at < len(data):
        size, = struct.unpack_from(">I", data, at)
        yield data[at + 4:at + 8], data[at + 8:at + 8 + size]
        at += 12 + size


def _unfilter(raw, row_bytes, height, bpp):
    rows, before = [], bytearray(row_bytes)
    for y in range(height):
        kind, row = raw[y * (row_bytes + 1)], bytearray(raw[y * (row_bytes + 1) + 1:(y + 1) * (row_bytes + 1)])
        for i in range(row_bytes):
            a, b = row[i - bpp] if i >= bpp else 0, before[i]
            c = before[i - bpp] if i >= bpp else 0
            if kind == 1:
                row[i] = (row[i] + a) & 255
            elif kind == 2:
                row[i] = (row[i] + b) & 255
            elif kind == 3:
                row[i] = (row[i] + (a + b) // 2) & 255
            elif kind == 4:
                p = a + b - c
                best = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))
                row[i] = (row[i] + best[2]) & 255
        rows.append(bytes(row))
        before = row
    return b"".join(rows)


def read_png(path):
    data = open(path, "rb").read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    packed = b""
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            packed += body
    assert depth in (8, 16) and interlace == 0, f"{path}: depth {depth}"
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    bpp = channels * depth // 8
    raw = _unfilter(zlib.decompress(packed), width * bpp, height, bpp)
    samples = list(raw) if depth == 8 else list(struct.unpack(f">{len(raw) // 2}H", raw))
    return Picture(width, height, channels, samples, (1 << depth) - 1)


def read_tiff(path):
    """Uncompressed strips of chunky samples: what GIMP writes with compression 0."""
    data = open(path, "rb").read()
    order = "<" if data[:2] == b"II" else ">"
    at, = struct.unpack_from(order + "I", data, 4)
    tags = {}
    for i in range(struct.unpack_from(order + "H", data, at)[0]):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at + 2 + 12 * i)
        code = {1: "B", 3: "H", 4: "I"}.get(kind)
        if code is None:
            continue
        size = struct.calcsize(code) * count
        where = at + 10 + 12 * i if size <= 4 else struct.unpack_from(order + "I", data, at + 10 + 12 * i)[0]
        tags[tag] = struct.unpack_from(f"{order}{count}{code}", data, where)
    assert tags.get(259, (1,))[0] == 1, "compressed"
    raw = b"".join(data[o:o + n] for o, n in zip(tags[273], tags[279]))
    bits, form = tags[258][0], tags.get(339, (1,))[0]
    code = {(8, 1): "B", (16, 1): "H", (16, 3): "e", (32, 3): "f"}[bits, form]
    samples = list(struct.unpack(f"{order}{len(raw) // (bits // 8)}{code}", raw))
    return Picture(tags[256][0], tags[257][0], tags.get(277, (1,))[0], samples, 1 if form == 3 else (1 << bits) - 1)


def read(path):
    return read_png(path) if path.endswith(".png") else read_tiff(path)


def write_png(path, width, height, function):
    """function(x, y) gives 3 or 4 bytes."""
    channels = len(function(0, 0))
    raw = b"".join(b"\0" + bytes(c for x in range(width) for c in function(x, y)) for y in range(height))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)))
        file.write(chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def pattern(x, y):
    return (x * 255 // 96 % 256, y * 255 // 80 % 256, (x ^ y) * 2 % 256)


def write_wide_profile(path):
    """An RGB matrix profile (ICC 2) with Adobe RGB's primaries and gamma 2.2."""
    def xyz(x, y, z):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))
    name = b"wide test profile\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(4 + 4 + 2 + 1 + 67)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    text = b"text\0\0\0\0public domain\0"
    tags = [(b"desc", desc), (b"cprt", text), (b"wtpt", xyz(0.9642, 1.0, 0.8249)),
            (b"rXYZ", xyz(0.60974, 0.31111, 0.01947)), (b"gXYZ", xyz(0.20528, 0.62567, 0.06087)),
            (b"bXYZ", xyz(0.14919, 0.06322, 0.74457)), (b"rTRC", curve), (b"gTRC", curve), (b"bTRC", curve)]
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags:
        data += bytes(-len(data) % 4)
        table += tag + struct.pack(">II", at, len(data))
        body += data
        at += len(data)
    head = struct.pack(">I4sI4s4s4s", at, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", round(0.9642 * 65536), 65536, round(0.8249 * 65536)) + bytes(48)
    with open(path, "wb") as file:
        file.write(head + table + body)
