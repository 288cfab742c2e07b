# SPDX-License-Identifier: MIT
"""A GGUF file as lists that a test may spoil: version, counts, metadata and the tensor table are written exactly as they
stand here, wrong or not. Knows nothing of what is sensible."""
import struct

FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
U32, I32, F32, STRING, ARRAY, U64 = 4, 5, 6, 8, 9, 10


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def string(self):
        n = self.take("<Q")
        self.at += n
        return self.data[self.at - n:self.at]

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, n = self.take("<I"), self.take("<Q")
            return inner, [self.value(inner) for _ in range(n)]
        return self.take(FORMATS[kind])


def string(text):
    return struct.pack("<Q", len(text)) + text


def value(kind, v):
    if kind == STRING:
        return string(v)
    if kind == ARRAY:
        return struct.pack("<IQ", v[0], len(v[1])) + b"".join(value(v[0], x) for x in v[1])
    return struct.pack(FORMATS[kind], v)


class Gguf:
    """meta: [key, type, value]; tensors: [name, dims (fastest first), type, offset]; all names and strings are bytes."""

    def __init__(self, path):
        with open(path, "rb") as f:
            r = Reader(f.read())
        self.magic, r.at = r.data[:4], 4
        self.version = r.take("<I")
        n_tensors, n_meta = r.take("<Q"), r.take("<Q")
        self.meta, self.tensors = [], []
        for _ in range(n_meta):
            key, kind = r.string(), r.take("<I")
            self.meta.append([key, kind, r.value(kind)])
        for _ in range(n_tensors):
            name, rank = r.string(), r.take("<I")
            dims = [r.take("<Q") for _ in range(rank)]
            self.tensors.append([name, dims, r.take("<I"), r.take("<Q")])
        self.header_end = r.at
        self.data = r.data[(r.at + 31) // 32 * 32:]
        self.n_tensors = self.n_meta = None  # None: as many as there are

    def entry(self, key):
        return next(m for m in self.meta if m[0] == key)

    def tensor(self, name):
        return next(t for t in self.tensors if t[0] == name)

    def bytes(self):
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_meta = len(self.meta) if self.n_meta is None else self.n_meta
        out = self.magic + struct.pack("<IQQ", self.version, n_tensors, n_meta)
        for key, kind, v in self.meta:
            out += string(key) + struct.pack("<I", kind) + value(kind, v)
        for name, dims, kind, offset in self.tensors:
            out += string(name) + struct.pack("<I%dQIQ" % len(dims), len(dims), *dims, kind, offset)
        return out + bytes(-len(out) % 32) + self.data
