"""What makes reading alerts fast gives what the slow way gives: layouts of items, ISA-L, headers, medians."""

import gzip
import io
import statistics
import zlib

import numpy as np
import pytest
from alert_packets import fastavro, fits
from hypothesis import given, settings
from hypothesis import strategies as st

from rotinv.alerts import avro_items, avro_skip, unzip
from rotinv.alerts.fits_images import read_images
from rotinv.alerts.robust_noise import robust_noise

KINDS = {
    "long": st.integers(-(2**63), 2**63 - 1),
    "int": st.integers(-(2**31), 2**31 - 1),
    "float": st.just(1.5),
    "double": st.just(-2.5),
    "boolean": st.booleans(),
    "string": st.sampled_from(["", "g", "x" * 70]),
    "bytes": st.sampled_from([b"", b"ab"]),
}


@st.composite
def histories(draw):
    """A schema of a record with a history, and the record: its items are alike, as an alert's are."""
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=8))
    nulls = draw(st.lists(st.sampled_from(["", "first", "last"]), min_size=len(names), max_size=len(names)))
    types = [{"": name, "first": ["null", name], "last": [name, "null"]}[null]
             for name, null in zip(names, nulls, strict=True)]  # fmt: skip
    item = {
        "type": "record",
        "name": "Item",
        "fields": [{"name": f"f{i}", "type": one} for i, one in enumerate(types)],
    }
    items = draw(st.sampled_from([item, ["null", item], [item, "null"]]))
    values = [
        st.none() | KINDS[name] if null else KINDS[name] for name, null in zip(names, nulls, strict=True)
    ]
    one = st.fixed_dictionaries({f"f{i}": value for i, value in enumerate(values)})
    few = draw(st.lists(one if isinstance(items, dict) else st.none() | one, min_size=1, max_size=6))
    history = [few[i % len(few)] for i in draw(st.lists(st.integers(0, 5), max_size=40))]
    fields = [{"name": "h", "type": {"type": "array", "items": items}}, {"name": "end", "type": "bytes"}]
    schema = fastavro.parse_schema({"type": "record", "name": "R", "fields": fields})
    return schema, {"h": history, "end": b"12345"}


def programs(schema, monkeypatch):
    """The programs that pass an array of items by layouts, and field by field."""
    fast, node = avro_skip.compiled(schema)
    with monkeypatch.context() as patch:
        patch.setattr(avro_skip, "HISTORY", avro_skip.ARRAY)
        slow, _ = avro_skip.compiled(schema)
    assert (fast == avro_items.HISTORY).sum() > (slow == avro_items.HISTORY).sum()
    return fast, slow, node


@settings(max_examples=150, deadline=None)
@given(histories(), st.data())
def test_items_are_passed_as_field_by_field(found, data):
    schema, record = found
    with pytest.MonkeyPatch.context() as monkeypatch:
        fast, slow, node = programs(schema, monkeypatch)
    file = io.BytesIO()
    fastavro.schemaless_writer(file, schema, record)
    whole = np.frombuffer(file.getvalue(), np.uint8)
    assert avro_skip.field_starts(whole, 0, fast, node).tolist() == [0, len(whole) - 6, len(whole)]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert avro_skip.field_starts(cut, 0, fast, node)[-1] == -1
    damaged = whole.copy()
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    np.testing.assert_array_equal(
        avro_skip.field_starts(damaged, 0, fast, node), avro_skip.field_starts(damaged, 0, slow, node)
    )


def test_more_layouts_than_are_kept_and_items_of_many_bytes():
    """Texts of nine lengths in turn, and an item of 700 numbers of nine bytes."""
    fields = [{"name": "t", "type": "string"}]
    many = [{"name": f"n{i}", "type": "long"} for i in range(700)]
    for item, values in ((fields, [{"t": "x" * (i % 9)} for i in range(90)]),
                         (many, [{f"n{i}": 2**60 + k for i in range(700)} for k in range(3)])):  # fmt: skip
        kind = {"type": "array", "items": {"type": "record", "name": "Item", "fields": item}}
        schema = fastavro.parse_schema(
            {"type": "record", "name": "R", "fields": [{"name": "h", "type": kind}]}
        )
        file = io.BytesIO()
        fastavro.schemaless_writer(file, schema, {"h": values})
        program, node = avro_skip.compiled(schema)
        data = np.frombuffer(file.getvalue(), np.uint8)
        assert avro_skip.field_starts(data, 0, program, node).tolist() == [0, len(data)]


def told(data, most=1 << 20):
    """The bytes of a gzip file, or why there are none."""
    try:
        return unzip.unzip(data, most)
    except ValueError as error:
        return str(error)


WHOLE = gzip.compress(np.random.default_rng(0).integers(0, 50, 20160, np.uint8).tobytes(), mtime=0)
DAMAGED = {
    "whole": WHOLE,
    "two members": WHOLE + gzip.compress(b"more"),
    "rest": WHOLE + b"xxxx",
    "cut": WHOLE[:-200],
    "without its end": WHOLE[:-4],
    "checksum": WHOLE[:-8] + bytes([WHOLE[-8] ^ 1]) + WHOLE[-7:],
    "length": WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]),
    "a bit": WHOLE[:900] + bytes([WHOLE[900] ^ 4]) + WHOLE[901:],
    "the start": WHOLE[:20],
    "method": WHOLE[:2] + b"\x07" + WHOLE[3:],
    "nothing": b"\x1f\x8b",
    "a bomb": gzip.compress(bytes(1 << 21)),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_isal_says_what_zlib_says(monkeypatch, what):
    pytest.importorskip("isal", reason="the extra fast")
    fast = told(DAMAGED[what])
    monkeypatch.setattr(unzip, "_ISAL", None)
    assert fast == told(DAMAGED[what])
    assert isinstance(fast, bytes) == (what in ("whole", "two members", "rest"))


def test_without_isal_zlib_unpacks(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "isal.isal_zlib", None)
    assert unzip._isal() is None
    monkeypatch.setattr(unzip, "_ISAL", None)
    assert told(WHOLE) == zlib.decompress(WHOLE, 31)


def test_images_of_one_form_keep_their_own_cards_and_pixels():
    """The form is kept from cut-out to cut-out, CRPIX and the pixels are not; nor is a form that is wrong."""
    rng = np.random.default_rng(1)
    for x in (3.5, 7.25):
        pixels = rng.normal(size=(9, 11)).astype(np.float32)
        file = io.BytesIO()
        hdu = fits.PrimaryHDU(pixels)
        hdu.header["CRPIX1"], hdu.header["CRPIX2"] = x, 2 * x
        hdu.header["COMMENT"] = "BSCALE  =                  5.0"
        hdu.writeto(file)
        (image,) = read_images(file.getvalue())
        np.testing.assert_array_equal(image.pixels, pixels)
        assert (float(image.header["CRPIX1"].split(b"/")[0]), image.header["BITPIX"]) == (x, -32)
        wrong = file.getvalue().replace(b"BITPIX  =                  -32", b"BITPIX  =                  -31")
        for _ in range(2):
            with pytest.raises(ValueError, match="cut off or damaged"):
                read_images(wrong)


def test_a_header_of_several_blocks_is_read_to_its_end():
    """Only headers of one block are kept; in a longer one what counts may come late."""
    for late in ("one", "two"):
        file, hdu = io.BytesIO(), fits.PrimaryHDU(np.ones((9, 11), np.float32))
        hdu.header.extend([(f"FILL{i}", i) for i in range(80)])
        hdu.header["UTYPE"] = late
        hdu.writeto(file)
        data = file.getvalue()
        assert data.index(b"UTYPE") > 2 * 2880
        assert read_images(data)[0].header["UTYPE"] == late
        with pytest.raises(ValueError, match="its FITS header has no end"):
            read_images(data[: 2 * 2880])


class Watched(bytes):
    """Bytes that count how many of them are copied in slices."""

    copied = 0

    def __getitem__(self, at):
        found = super().__getitem__(at)
        self.copied += len(found)
        return found


def test_long_headers_do_not_copy_the_rest_of_the_file_each():
    """A cut-out of many images would take seconds: time must grow as its size does."""
    file, hdus = io.BytesIO(), fits.HDUList([fits.PrimaryHDU(np.ones((9, 11), np.float32))])
    for _ in range(40):
        hdus.append(fits.ImageHDU(header=fits.Header([(f"FILL{i}", i) for i in range(40)])))
    hdus.writeto(file)
    data = Watched(file.getvalue())
    assert len(read_images(data)) == 1
    assert data.copied < 4 * len(data)


@pytest.mark.parametrize(
    "card",
    ["PCOUNT  = 1E400", "PCOUNT  = -800", "GCOUNT  = 'x'", "GCOUNT  = NaN", "BSCALE  = 'x'", "BZERO   = T"],
)
def test_a_number_in_a_header_that_is_none_is_told_as_damage(card):
    """It makes the cut-out unreadable, and not the whole packet."""
    file, hdu = io.BytesIO(), fits.PrimaryHDU(np.ones((9, 11), np.float32))
    hdu.header["COMMENT"] = "here"
    hdu.writeto(file)
    data = file.getvalue().replace(f"{'COMMENT here':80}".encode(), f"{card:80}".encode())
    with pytest.raises(ValueError, match=rf"its FITS header has {card[:6].strip()} = "):
        read_images(data)


@pytest.mark.parametrize("kind", ["f4", ">f4", "f8", ">f8", "i2", "u1", "i8"])
@pytest.mark.parametrize("spread", ["wide", "tied"])
def test_robust_noise_is_that_of_sorted_pixels(kind, spread):
    """To the last bit: for odd and even numbers of pixels, of either sign, some of them NaN or infinite."""
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 10, 961, 962):
        pixels = rng.normal(3, 30, count)
        pixels = (np.round(pixels / 20) * 20 if spread == "tied" else pixels).clip(0 if kind == "u1" else -99)
        pixels = pixels.astype(kind)
        for lost in (0, count // 3, count) if pixels.dtype.kind == "f" else (0,):
            pixels[:lost] = rng.choice([np.nan, np.inf, -np.inf], lost)
            known = pixels[lost:] if pixels.dtype.kind == "f" else pixels.astype(np.float64)
            slow = 0.0
            if len(known):
                off = np.abs(known - known.dtype.type(statistics.median(known.tolist())))
                slow = statistics.median(off.tolist())
            assert robust_noise(pixels) == 1.4826 * slow
