"""H.264 headers written anew, bit by bit: orders of pictures that no encoder at hand makes (H.264 7.3, 9.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.video import bare


def ue(number: int) -> str:
    """An unsigned exp-Golomb code, as a text of bits."""
    code = f"{number + 1:b}"
    return "0" * (len(code) - 1) + code


def se(number: int) -> str:
    return ue(2 * number - 1 if number > 0 else -2 * number)


def packed(head: int, bits: str) -> bytes:
    """A NAL unit of these bits: its last one, alignment and emulation prevention are added."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    out = bytearray([head])
    for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
        if byte <= 3 and out[-2:] == b"\0\0" and len(out) > 2:
            out.append(3)
        out.append(byte)
    return bytes(out)


def unpacked(unit: bytes) -> str:
    """The bits of a NAL unit behind its header, up to its last one."""
    payload = unit[1:].replace(b"\0\0\3", b"\0\0")
    return f"{int.from_bytes(payload, 'big'):0{8 * len(payload)}b}".rstrip("0")[:-1]


class Reader:
    """Takes codes off a text of bits."""

    def __init__(self, bits: str) -> None:
        self.bits, self.at = bits, 0

    def u(self, count: int) -> int:
        self.at += count
        return int(self.bits[self.at - count : self.at] or "0", 2)

    def ue(self) -> int:
        zeros = self.bits.index("1", self.at) - self.at
        self.at += zeros
        return self.u(zeros + 1) - 1

    @property
    def rest(self) -> str:
        return self.bits[self.at :]


@dataclass
class Header:
    """A slice header of libx264's baseline or main profile without CABAC, and what follows its picture's order."""

    index: int
    is_reference: bool
    is_idr: bool
    lead: str
    frame_num: int
    idr: str
    lsb: int
    rest: str


def rewritten(source: bytes, order: str, edit: Callable[[Header], tuple[int, str, str]]) -> bytes:
    """The stream with `order` instead of how its parameter set tells the order of pictures.

    `edit` gives a slice's frame_num, the bits of its picture's order, and the rest.
    """
    out, index, number_bits, order_bits = list[bytes](), 0, 0, 0
    for unit in bare.nals(source):
        kind, reader = unit[0] & 31, Reader(unpacked(unit))
        if kind == 7:
            head = reader.bits[:24]
            assert reader.u(24) >> 16 in {66, 77}
            identity, number_bits, kind_of_order = ue(reader.ue()), reader.ue() + 4, reader.ue()
            order_bits = reader.ue() + 4 if kind_of_order == 0 else 0
            out.append(packed(unit[0], head + identity + ue(number_bits - 4) + order + reader.rest))
        elif kind in {1, 5}:
            for _ in range(3):
                reader.ue()
            lead = reader.bits[: reader.at]
            number, idr = reader.u(number_bits), ue(reader.ue()) if kind == 5 else ""
            lsb = reader.u(order_bits)
            header = Header(index, bool(unit[0] & 0x60), kind == 5, lead, number, idr, lsb, reader.rest)
            frame_num, told, rest = edit(header)
            bits = f"{lead}{frame_num % (1 << number_bits):0{number_bits}b}{idr}{told}{rest}"
            out.append(packed(unit[0], bits))
            index += 1
        else:
            out.append(unit)
    return bare.stream(out)


def aligned(bits: str) -> str:
    """With zeros up to the next byte."""
    return bits + "0" * (-len(bits) % 8)


def fields(values: Iterable[tuple[int, int, int, bool]]) -> bytes:
    """Frames of 32 x 32 whose fields are coded apart and as samples: brightness, frame_num, count and whether referred to.

    Each field has a delimiter, as every access unit may.
    """
    usability = "0000" + "0" + "00" + "0" + "1" + "1" + ue(0) * 2 + ue(10) * 2 + ue(1) + ue(2)
    size = ue(2) + "0" + ue(1) + ue(0) + "001" + "0" + "1"
    units = [
        packed(0x67, f"{0x4D401E:024b}" + ue(0) + ue(0) + ue(0) + ue(4) + size + usability),
        packed(0x68, ue(0) + ue(0) + "00" + ue(0) * 3 + "000" + se(0) * 3 + "100"),
    ]
    for number, (brightness, frame_num, count, referred) in enumerate(values):
        for bottom in (0, 1):
            is_idr = number == bottom == 0
            bits = (
                f"{ue(0)}{ue(7)}{ue(0)}{frame_num:04b}1{bottom}{ue(0) if is_idr else ''}{count + bottom:08b}"
            )
            bits += ("00" if is_idr else "0") if referred else ""
            bits += se(0) + ue(1)
            for _ in range(2):  # macroblocks of samples: I_PCM
                bits = aligned(bits + ue(25)) + f"{brightness + 9 * bottom:08b}" * 256 + f"{128:08b}" * 128
            units += b"\x09\xf0", packed((0x60 if referred else 0) | (5 if is_idr else 1), bits)
    return bare.stream(units)
