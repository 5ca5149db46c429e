"""FITS: every kind of integer, scaling and null, in files and in the cut-outs of packets."""

import gzip
import io

import numpy as np
import pytest
from alert_packets import RUBIN, SIZE, ZTF, fits, image_bytes, one_stamp, rubin, sky, write_avro, ztf

from rotinv.alerts import fits_images
from rotinv.alerts.files import Alerts
from rotinv.alerts.stamp import BIT, stamp_of


def test_images_of_any_fits_type_are_read():
    pixels = np.arange(12).reshape(3, 4)
    for dtype in ("u1", "i2", "i4", "i8", "f4", "f8"):
        out = io.BytesIO()
        fits.PrimaryHDU(pixels.astype(dtype)).writeto(out)
        found = fits_images.read_images(out.getvalue())
        np.testing.assert_array_equal(found[0].pixels, pixels)
    scaled = fits.ImageHDU(np.int16(pixels))
    scaled.scale("int16", bscale=0.5, bzero=10)
    scaled.header["BLANK"] = int(np.int16((3 - 10) / 0.5))
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), scaled]).writeto(out)
    found = fits_images.read_images(gzip.compress(out.getvalue()))
    assert len(found) == 1
    np.testing.assert_array_equal(found[0].pixels.ravel()[[0, 5, 11]], [0, 5, 11])
    assert np.isnan(found[0].pixels.ravel()[3])


def star(side=63, seed=0):
    """The cut-outs of sky by their names in FITS files."""
    return dict(zip(("TEMPLATE", "SCIENCE", "DIFFERENCE"), sky(side, seed), strict=True))


def stored_as(kind, pixels, scale=0.01):
    """An extension of pixels that are stored as another kind of number; how far that may round them."""
    if kind == "uint16":
        return fits.ImageHDU((pixels + 300).astype(np.uint16)), 1
    if kind == "uint32":
        return fits.ImageHDU((pixels + 300).astype(np.uint32)), 1
    if kind == "int64":
        return fits.ImageHDU(pixels.astype(np.int64)), 1
    if kind == "float64":
        return fits.ImageHDU(pixels.astype(np.float64)), 0
    if kind == "tiles":
        return fits.CompImageHDU(pixels, compression_type="GZIP_1", quantize_level=0), 0
    if kind == "tiles of int16":
        return fits.CompImageHDU(pixels.astype(np.int16), compression_type="RICE_1"), 1
    if kind == "a third axis":
        return fits.ImageHDU(pixels[None]), 0
    hdu = fits.ImageHDU(np.round(pixels / scale).astype({"scaled int16": np.int16, "scaled": np.int32}[kind]))
    hdu.header["BSCALE"], hdu.header["BLANK"] = scale, -9999
    return hdu, scale


KINDS = (
    "uint16",
    "uint32",
    "int64",
    "float64",
    "scaled",
    "scaled int16",
    "tiles",
    "tiles of int16",
    "a third axis",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["file", "packet"])
def test_every_kind_of_number_is_read_as_astropy_reads_it(tmp_path, kind, where):
    cutouts = star()
    path, expected = tmp_path / "a.fits", []
    record = ztf("ZTF18abc", 1, sky())
    hdus = [fits.PrimaryHDU()]
    for name, pixels in cutouts.items():
        hdu, rounded = stored_as(kind, pixels)
        hdu.name = name
        out = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(out)
        record[f"cutout{name.title()}"]["stampData"] = gzip.compress(out.getvalue())
        read = np.squeeze(fits.open(io.BytesIO(out.getvalue()))[1].data).astype(np.float64)
        offset = 300 if kind.startswith("uint") else 0
        np.testing.assert_allclose(read - offset, pixels, atol=rounded + 1e-4)  # the test's own writing
        expected.append(read[21:42, 21:42])
        hdus.append(hdu)
    if where == "file":
        fits.HDUList(hdus).writeto(path)
    else:
        write_avro(path, ZTF, [record])
    _, stamp, flags = one_stamp(path)
    assert flags == BIT["robust_noise"]
    np.testing.assert_allclose(stamp[..., :3], np.moveaxis(np.float32(expected), 0, 2), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("where", ["file", "packet"])
def test_a_blank_pixel_has_no_value(tmp_path, where):
    cutouts = star()
    hdus = [fits.PrimaryHDU()]
    for name, pixels in cutouts.items():
        hdus.append(fits.ImageHDU(pixels.astype(np.int16), name=name))
        hdus[-1].header["BLANK"] = -9999
    hdus[2].data[22, 22] = -9999
    path = tmp_path / "a.fits"
    if where == "file":
        fits.HDUList(hdus).writeto(path)
    else:
        record = ztf("ZTF18abc", 1, sky())
        for name, hdu in zip(cutouts, hdus[1:], strict=True):
            out = io.BytesIO()
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(out)
            record[f"cutout{name.title()}"]["stampData"] = out.getvalue()
        write_avro(path, ZTF, [record])
    packet, _, flags = one_stamp(path)
    assert np.isnan(packet.science[22, 22]) and np.isnan(packet.science).sum() == 1
    assert flags & BIT["filled"]


def test_a_number_with_d_is_a_float(tmp_path):
    """FITS Standard 4.0, section 4.2.4: 1.0D-01 is 0.1."""
    pixels = np.round(sky()[1] * 10)
    raw = bytearray(image_bytes(pixels))
    hdu = fits.PrimaryHDU(pixels.astype(np.int16))
    hdu.header["BSCALE"] = 0.1
    out = io.BytesIO()
    hdu.writeto(out)
    raw = out.getvalue()
    at = raw.index(b"BSCALE  =")
    raw = raw[:at] + b"BSCALE  =              1.0D-01".ljust(80) + raw[at + 80 :]
    found = fits_images.read_images(raw)
    np.testing.assert_allclose(found[0].pixels, pixels / 10, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda pixels: fits.PrimaryHDU(np.stack([pixels] * 2)), r"the shape \(2, 63, 63\)"),
        (lambda pixels: fits.PrimaryHDU(), "no image of two axes"),
        (lambda pixels: fits.PrimaryHDU(pixels[0]), "no image of two axes"),
    ],
)  # fmt: skip
def test_a_cutout_without_an_image_is_unreadable_not_missing(tmp_path, make, reason):
    record = ztf("ZTF18abc", 1, sky())
    out = io.BytesIO()
    make(sky()[1]).writeto(out)
    record["cutoutScience"]["stampData"] = out.getvalue()
    files = Alerts([write_avro(tmp_path / "a.avro", ZTF, [record])])
    _, flags = stamp_of(next(files.packets(0, 1)), SIZE)
    assert flags & BIT["unreadable"] and not flags & BIT["missing_cutout"]
    assert len(files.problems) == 1
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(files.problems[0])


def test_a_null_in_a_table_is_no_value(tmp_path):
    """TNULL of an integer, and the 0 of a logical column, which astropy gives as False."""
    n = 4
    columns = [
        fits.Column(name.lower(), f"{63 * 63}E", dim="(63,63)", array=np.stack([pixels] * n))
        for name, pixels in star().items()
    ]
    sign = fits.Column("isdiffpos", "J", null=-99, array=np.array([1, 0, -99, 0]))
    path = tmp_path / "a.fits"
    fits.BinTableHDU.from_columns([*columns, sign]).writeto(path)
    packets = list(Alerts([path]).packets(0, n))
    assert [packet.negative for packet in packets] == [False, True, False, True]
    truth = fits.Column("isnegative", "L", array=np.array([True, False, True, True]))
    path = tmp_path / "b.fits"
    fits.BinTableHDU.from_columns([*columns, truth]).writeto(path)
    data = bytearray(path.read_bytes())
    row = 4 * 3 * 63 * 63 + 1
    start = data.index(b"END" + b" " * 77, 2880) // 2880 * 2880 + 2880
    assert [data[start + i * row + row - 1] for i in range(n)] == list(b"TFTT")
    data[start + 2 * row + row - 1] = 0
    path.write_bytes(data)
    assert [packet.negative for packet in Alerts([path]).packets(0, n)] == [True, False, False, True]


def test_pixels_of_integers_with_a_null_have_no_value_there(tmp_path):
    columns = []
    for name, pixels in star(SIZE).items():
        whole = pixels.astype(np.int32)[None]
        whole[0, 0, 3] = -99
        columns.append(
            fits.Column(name.lower(), f"{SIZE * SIZE}J", dim=f"({SIZE},{SIZE})", null=-99, array=whole)
        )
    path = tmp_path / "a.fits"
    fits.BinTableHDU.from_columns(columns).writeto(path)
    packet, _, flags = one_stamp(path)
    assert np.isnan(packet.template[0, 3]) and np.isnan(packet.template).sum() == 1
    assert flags & BIT["filled"]


@pytest.mark.filterwarnings("ignore:.*HIERARCH")
def test_a_sign_in_a_long_keyword_is_read(tmp_path):
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(pixels, name=name) for name, pixels in star().items())]
    hdus[0].header["HIERARCH isdiffpos"] = "f"
    path = tmp_path / "a.fits"
    fits.HDUList(hdus).writeto(path)
    assert one_stamp(path)[0].negative


def uncertainty(kind):
    """An extension of uncertainties of 5 and 0.04 and 25, all the same variance of 25."""
    value = {"StdDevUncertainty": 5, None: 5, "VarianceUncertainty": 25, "InverseVariance": 1 / 25}[kind]
    hdu = fits.ImageHDU(np.full((30, 30), value, np.float32), name="UNCERT")
    if kind:
        hdu.header["UTYPE"] = kind
    return hdu


@pytest.mark.parametrize("kind", ["StdDevUncertainty", None, "VarianceUncertainty", "InverseVariance"])
def test_an_uncertainty_is_the_same_in_a_file_and_in_a_packet(tmp_path, kind):
    """UNCERT without UTYPE is a standard deviation, as astropy's CCDData reads it."""
    cutouts = star(30)
    record = rubin(1, sky(30))
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(cutouts["DIFFERENCE"]), uncertainty(kind)]).writeto(out)
    record["cutoutDifference"] = out.getvalue()
    images = [fits.ImageHDU(pixels, name=name) for name, pixels in cutouts.items()]
    fits.HDUList([fits.PrimaryHDU(), *images, uncertainty(kind)]).writeto(tmp_path / "a.fits")
    for path in (tmp_path / "a.fits", write_avro(tmp_path / "a.avro", RUBIN, [record])):
        packet, _, flags = one_stamp(path)
        np.testing.assert_allclose(packet.variance, 25, rtol=1e-6)
        assert not flags & BIT["robust_noise"]


def test_one_damaged_extension_costs_its_own_channel(tmp_path):
    hdus = [fits.PrimaryHDU()]
    for name, pixels in star().items():
        hdus.append(fits.CompImageHDU(pixels, name=name, compression_type="GZIP_1", quantize_level=0))
    path = tmp_path / "a.fits"
    fits.HDUList(hdus).writeto(path)
    with fits.open(path, disable_image_compression=True) as read:
        info = read[2]._data_offset + read[2].header["THEAP"] if "THEAP" in read[2].header else None
        offset = info or read[2]._data_offset + read[2].header["NAXIS1"] * read[2].header["NAXIS2"]
    data = bytearray(path.read_bytes())
    data[offset : offset + 60] = bytes(60)
    path.write_bytes(data)
    files = Alerts([path])
    packet = next(files.packets(0, 1))
    _, flags = stamp_of(packet, SIZE)
    assert flags & BIT["unreadable"] and not flags & BIT["missing_cutout"]
    assert "its science cut-out" in files.problems[0]
    assert packet.template is not None and packet.difference is not None


@pytest.mark.parametrize("zipped", [True, False])
def test_bytes_of_a_fits_file_in_a_column_of_lists_are_not_taken_for_pixels(tmp_path, zipped):
    """A variable-length column of bytes, one of which has as many as a square."""
    columns = []
    for name, pixels in star().items():
        data = np.frombuffer(image_bytes(pixels, zipped=zipped), np.uint8)
        if not zipped:
            data = np.concatenate([data, np.zeros(145**2 - len(data), np.uint8)])
        columns.append(fits.Column(name.lower(), "PB()", array=np.array([data, data[:0]], dtype=object)))
    path = tmp_path / "a.fits"
    fits.BinTableHDU.from_columns(columns).writeto(path)
    files = Alerts([path])
    first, second = files.packets(0, 2)
    assert not files.problems
    np.testing.assert_array_equal(first.difference, sky()[2])
    assert second.difference is None
