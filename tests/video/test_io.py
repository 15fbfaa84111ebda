import subprocess
import sys
import tempfile
import warnings
import weakref
import zlib
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from douga.video import io
from douga.video.io import frames as read_frames
from douga.video.io import (
    from_uint8,
    read_image,
    read_labels,
    read_picture,
    read_recipe,
    read_video,
    shown,
    sound,
    to_uint8,
    write_image,
    write_video,
)


def smooth(frames: int = 8, height: int = 32, width: int = 48) -> Tensor:
    """(3, T, H, W): colours that change slowly, as codecs like them, and no two frames alike."""
    coarse = torch.rand(1, 3, 3, 3, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, (frames, height, width), mode="trilinear", align_corners=True)[0]


def grey_of(path: Path) -> list[int]:
    """The level of a picture of one row, 0-255."""
    return to_uint8(read_image(path)[:, None])[0, 0, :, 0].tolist()


def test_every_8_bit_value_survives() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    frames = from_uint8(values)
    assert (frames.min(), frames.max()) == (-1, 1)
    assert np.array_equal(to_uint8(frames), values)


def test_to_uint8_clamps_and_refuses_nan() -> None:
    assert to_uint8(torch.tensor([-1.5, 1.5]).expand(3, 1, 1, 2))[0, 0].tolist() == [[0] * 3, [255] * 3]
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.full((3, 1, 2, 2), torch.nan))


# Pictures


@pytest.mark.parametrize("suffix", sorted(io.IMAGE_SUFFIXES))
def test_a_picture_comes_back(tmp_path: Path, suffix: str) -> None:
    frame = smooth()[:, 0]
    write_image(tmp_path / f"a{suffix}", frame)
    back = read_image(tmp_path / f"a{suffix}")
    assert back.shape == frame.shape
    assert (back - frame).abs().max() < (0.15 if suffix in {".jpg", ".jpeg", ".webp"} else 1.01 / 255)


def test_16_bit_grey_keeps_its_bits(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255, 256, 32768, 65534, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif", "a.pgm"):
        cv2.imwrite(str(tmp_path / name), values)
        picture = read_image(tmp_path / name)
        assert np.array_equal(((picture[1].double() + 1) * 32767.5).round().numpy(), values)
        assert torch.equal(picture[0], picture[2])


def test_16_bit_colour_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[[0, 32768, 65535], [65535, 16384, 256]]], dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    assert np.abs(to_uint8(read_image(tmp_path / "a.png")[:, None])[0] - values / 257).max() <= 1


def test_float_grey_lies_in_0_to_1(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, 0].tolist() == [-1, -0.5, 1]
    Image.fromarray(np.array([[0.0, 128.0]], dtype=np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(ValueError, match=r"b\.tif .*between 0 and 1"):
        read_image(tmp_path / "b.tif")


def test_modes_are_read_as_rgb(tmp_path: Path) -> None:
    colours = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 0], [255, 255, 255]]], dtype=np.uint8))
    for mode, name in (("P", "p.png"), ("CMYK", "cmyk.tif"), ("RGB", "rgb.png")):
        colours.convert(mode).save(tmp_path / name)
        expected = torch.tensor([[1, -1, -1, 1], [-1, 1, -1, 1], [-1, -1, -1, 1.0]])
        assert torch.equal(read_image(tmp_path / name)[:, 0], expected), mode
    for mode, expected_grey in (("L", [76, 150, 0, 255]), ("1", [0, 255, 0, 255])):
        colours.convert("L").convert(mode).save(tmp_path / "grey.png")
        grey = grey_of(tmp_path / "grey.png")
        assert [grey[0] if mode == "L" else 0, *grey[1:]] == expected_grey


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[0, 0, 0, 255], [0, 0, 0, 128], [90, 90, 90, 0], [100, 100, 100, 64]]], dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    for name in ("rgba.png", "la.png"):
        assert grey_of(tmp_path / name) == [0, 127, 255, 216]  # 255 * (1 - a) + value * a
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 60, 60, 60])
    palette.save(tmp_path / "p.png", transparency=1)
    assert grey_of(tmp_path / "p.png") == [0, 255]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 255, 255]], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to view
    picture.save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png")[0].tolist() == [[-1], [1], [1]]


def bad_pictures(folder: Path) -> dict[str, tuple[type[Exception], str]]:
    (folder / "folder.png").mkdir(parents=True)
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture")
    write_image(folder / "whole.jpg", smooth()[:, 0])
    write_image(folder / "whole.png", smooth()[:, 0])
    for suffix in ("jpg", "png"):
        whole = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    return {
        "missing.png": (FileNotFoundError, "there is no file"),
        "folder.png": (ValueError, "is a folder"),
        "empty.png": (ValueError, "is an empty file"),
        "text.png": (ValueError, "is not a picture"),
        "cut.jpg": (ValueError, "is damaged"),
        "cut.png": (ValueError, "is damaged"),
    }


def test_bad_pictures_are_refused_in_one_sentence_with_their_name(tmp_path: Path) -> None:
    for name, (kind, text) in bad_pictures(tmp_path).items():
        with pytest.raises(kind, match=text) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [8001, 10_000, 20_000])  # Pillow is silent, warns, raises
def test_a_huge_picture_is_refused_from_its_header(tmp_path: Path, side: int) -> None:
    # A bitmap's header alone: there is nothing behind it to decode.
    header = b"BM" + np.array([54, 0, 54, 40, side, side], "<u4").tobytes() + np.array([1, 24], "<u2").tobytes()
    (tmp_path / "huge.bmp").write_bytes(header + bytes(24))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="64,000,000 pixels"):
            read_image(tmp_path / "huge.bmp")


def test_a_picture_with_an_unknown_suffix_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.jpg.*\.png"):
        write_image(tmp_path / "a.docx", smooth()[:, 0])
    assert not any(tmp_path.iterdir())


# Pictures with all that they hold


def levels(picture: Tensor, bits: int) -> np.ndarray:
    """(H, W, C) numbers as a file stores them."""
    return to_uint8(picture[:, None], bits)[0]


@pytest.mark.parametrize("planes", [3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_picture_keeps_its_bits_and_its_alpha(tmp_path: Path, planes: int, kind: type) -> None:
    top = np.iinfo(kind).max
    values = np.random.default_rng(0).integers(0, top + 1, (5, 7, planes), dtype=kind)
    values[0, 0], values[0, 1] = 0, top
    swapped = values[..., [2, 1, 0, 3][:planes]]
    for name in ("a.png", "a.tif"):
        cv2.imwrite(str(tmp_path / name), swapped)
        picture, bits = read_picture(tmp_path / name)
        assert (bits, tuple(picture.shape)) == (8 * values.itemsize, (planes, 5, 7)), name
        assert np.array_equal(levels(picture, bits), values), name


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_deep_grey_is_read_as_rgb(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 257, 65535]], dtype=np.uint16)
    cv2.imwrite(str(tmp_path / name), values)
    picture, bits = read_picture(tmp_path / name)
    assert bits == 16
    assert np.array_equal(levels(picture, 16), values[..., None].repeat(3, axis=2))
    assert torch.equal(picture, read_image(tmp_path / name))


def test_what_is_transparent_is_seen_in_every_form(tmp_path: Path) -> None:
    rgba = np.array([[[9, 9, 9, 255], [60, 60, 60, 0]]], dtype=np.uint8)
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    Image.fromarray(rgba[..., :3]).save(tmp_path / "key.png", transparency=(60, 60, 60))
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    palette.putpalette([9, 9, 9, 60, 60, 60])
    palette.save(tmp_path / "p.png", transparency=1)
    for name in ("la.png", "key.png", "p.png"):
        picture, bits = read_picture(tmp_path / name)
        assert (bits, levels(picture, 8).tolist()) == (8, rgba.tolist()), name
    Image.fromarray(np.array([[9, 300]], dtype=np.uint16)).save(tmp_path / "grey.png", transparency=300)
    picture, bits = read_picture(tmp_path / "grey.png")
    assert levels(picture, bits)[0, :, 3].tolist() == [65535, 0]
    assert read_image(tmp_path / "grey.png")[:, 0, 1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    values = np.arange(18, dtype=np.uint16).reshape(2, 3, 3) * 1000
    exif = Image.Exif()
    exif[0x0112] = orientation
    cv2.imwrite(str(tmp_path / "plain.png"), values)
    plain = (tmp_path / "plain.png").read_bytes()
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "deep.png").write_bytes(plain[:33] + chunk + plain[33:])
    Image.fromarray((values[..., ::-1] // 257).astype(np.uint8)).save(tmp_path / "flat.png", exif=exif)
    deep, _ = read_picture(tmp_path / "deep.png")
    flat, _ = read_picture(tmp_path / "flat.png")
    assert deep.shape == flat.shape
    assert (deep - flat).abs().max() <= 2 / 255


def test_bad_pictures_are_refused_as_read_image_does(tmp_path: Path) -> None:
    bad = bad_pictures(tmp_path)
    cv2.imwrite(str(tmp_path / "deep.png"), np.random.default_rng(0).integers(0, 65536, (40, 40, 3), dtype=np.uint16))
    (tmp_path / "cut16.png").write_bytes((tmp_path / "deep.png").read_bytes()[:3000])
    header = b"BM" + np.array([54, 0, 54, 40, 9000, 9000], "<u4").tobytes() + np.array([1, 24], "<u2").tobytes()
    (tmp_path / "huge.bmp").write_bytes(header + bytes(24))
    for name, (kind, text) in {
        **bad,
        "cut16.png": (ValueError, "is damaged"),
        "huge.bmp": (ValueError, "64,000,000 pixels"),
    }.items():
        with pytest.raises(kind, match=text) as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("planes", [3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_folder_keeps_every_bit(tmp_path: Path, planes: int, bits: int) -> None:
    values = torch.randint(0, 2**bits, (planes, 3, 4, 6), generator=torch.Generator().manual_seed(0))
    video = values / (2**bits - 1) * 2 - 1
    write_video(tmp_path / "a", video, 25, bits=bits, recipe='{"seed": 1}')
    for i in range(3):
        picture, found = read_picture(tmp_path / "a" / f"000{i}.png")
        assert found == bits
        assert np.array_equal(levels(picture, bits), values[:, i].permute(1, 2, 0).numpy())


def test_alpha_is_on_or_off_in_a_gif_and_white_in_an_mp4(tmp_path: Path) -> None:
    video = torch.full((4, 3, 16, 16), -1.0)  # black
    video[0, :, :8] = 1  # above, red
    video[3, 0, :, :8], video[3, 1:, :, 8:] = 1, 1  # seen on the left at first, then on the right
    video[3, 2, :, :8] = -0.1  # less than half
    write_video(tmp_path / "a.gif", video, 10)
    with Image.open(tmp_path / "a.gif") as gif:
        for i, left in enumerate([True, False, False]):
            gif.seek(min(i, gif.n_frames - 1))  # type: ignore[attr-defined]
            rgba = np.array(gif.convert("RGBA"))
            assert (rgba[..., 3] == np.where((np.arange(16) < 8) == left, 255, 0)).all(), i
            assert rgba[2, 2 if left else 12].tolist() == [255, 0, 0, 255]
            assert rgba[12, 2 if left else 12].tolist() == [0, 0, 0, 255]
    write_video(tmp_path / "a.mp4", video, 10)
    back = levels(read_video(tmp_path / "a.mp4")[0][:, 0], 8)
    assert np.abs(back[:, 11:].astype(int) - 255).max() <= 8
    assert np.abs(back[12:, :5].astype(int)).max() <= 8


# How it was made


RECIPE = '{"command": "tween", "note": "動画 \u00e9 \\"=;#\\n", "points": [' + ", ".join(["0.125"] * 200) + "]}"


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
def test_a_video_says_how_it_was_made(tmp_path: Path, name: str, bits: int) -> None:
    written = []
    for folder in ("one", "two"):
        write_video(tmp_path / folder / name, smooth(), 20, bits=bits, recipe=RECIPE)
        assert read_recipe(tmp_path / folder / name) == RECIPE
        written.append([path.read_bytes() for path in sorted((tmp_path / folder).rglob("*.*"))])
    assert written[0] == written[1]
    write_video(tmp_path / "none" / name, smooth(), 20, bits=bits)
    assert read_recipe(tmp_path / "none" / name) is None
    same, _ = read_video(tmp_path / "none" / name)
    assert torch.equal(read_video(tmp_path / "one" / name)[0], same)


def test_a_picture_says_how_it_was_made(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", smooth()[:, 0], recipe=RECIPE)
    assert read_recipe(tmp_path / "a.png") == RECIPE
    with pytest.raises(ValueError, match=r"only a \.png keeps it"):
        write_image(tmp_path / "a.jpg", smooth()[:, 0], recipe=RECIPE)


def test_what_is_no_recipe_is_none_and_what_is_no_video_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif", comment=b"drawn by hand")
    assert read_recipe(tmp_path / "a.gif") is None
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "folder").mkdir()
    for name, kind, text in (
        ("missing.mp4", FileNotFoundError, "there is no file"),
        ("text.mp4", ValueError, "is not a video"),
        ("folder", ValueError, "holds no pictures"),
    ):
        with pytest.raises(kind, match=text):
            read_recipe(tmp_path / name)


# Label maps


@pytest.mark.parametrize(
    "values", [[[0, 1, 1], [1, 0, 0]], [[0, 7, 18], [254, 255, 1]], [[0, 300, 65535], [1, 2, 26001]]]
)
def test_a_label_map_keeps_its_numbers(tmp_path: Path, values: list[list[int]]) -> None:
    kind = np.uint8 if max(map(max, values)) < 256 else np.uint16
    cv2.imwrite(str(tmp_path / "grey.png"), np.array(values, kind))
    names = ["grey.png"]
    if kind is np.uint8:
        palette = Image.fromarray(np.array(values, kind), mode="P")
        palette.putpalette([(17 * i + 5) % 256 for i in range(3 * 256)])  # colours that are no numbers of classes
        palette.save(tmp_path / "palette.png")
        names.append("palette.png")
    for name in names:
        labels = read_labels(tmp_path / name)
        assert labels.dtype == torch.int32
        assert labels.tolist() == values, name


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_label_map_of_few_bits_keeps_its_numbers(tmp_path: Path, bits: int) -> None:
    row = list(range(2**bits))
    packed = sum(value << (bits * (len(row) - 1 - i)) for i, value in enumerate(row))
    size = -(-bits * len(row) // 8)
    packed <<= 8 * size - bits * len(row)

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = len(row).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    data = zlib.compress(b"\0" + packed.to_bytes(size, "big"))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    assert read_labels(tmp_path / "a.png").tolist() == [row]


def test_a_label_map_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to view
    Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert read_labels(tmp_path / "a.png").tolist() == [[4, 1], [5, 2], [6, 3]]


def test_what_is_no_label_map_is_refused_in_one_sentence(tmp_path: Path) -> None:
    picture = Image.fromarray(to_uint8(smooth())[0])
    for mode in ("RGB", "RGBA", "LA"):
        picture.convert(mode).save(tmp_path / f"{mode}.png")
    picture.convert("L").save(tmp_path / "L.jpg")
    for name in ("RGB.png", "RGBA.png", "LA.png", "L.jpg"):
        with pytest.raises(ValueError, match=r"is not a label map: save it as a PNG in 8-bit grey") as caught:
            read_labels(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    for name, (kind, text) in bad_pictures(tmp_path / "bad").items():
        with pytest.raises(kind, match=text):
            read_labels(tmp_path / "bad" / name)


# Videos


@pytest.mark.parametrize(("name", "tolerance"), [("a.mp4", 0.03), ("a.gif", 0.05), ("a", 1.01 / 255 / 2)])
def test_a_video_comes_back(tmp_path: Path, name: str, tolerance: float) -> None:
    video = smooth()
    write_video(tmp_path / "new" / name, video, 20)
    back, fps = read_video(tmp_path / "new" / name)
    assert back.shape == video.shape
    assert fps == (25 if name == "a" else 20)
    assert (back - video).abs().mean() < tolerance
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a/0001.png"])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    seen = set()
    for i in range(12):  # x264 differs now and then where it does
        _memory = [np.full(50_000 + 997 * i, i, np.uint8) for _ in range(20)]
        out = tmp_path / str(i)
        write_video(out / Path(name).parts[0], smooth(), 20)
        seen.add((out / name).read_bytes())
    assert len(seen) == 1


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)])
def test_mp4_keeps_colours(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    write_video(tmp_path / "a.mp4", from_uint8(np.full((2, 32, 32, 3), colour, np.uint8)), 25)
    assert np.abs(to_uint8(read_video(tmp_path / "a.mp4")[0]).astype(int) - colour).max() <= 3


def test_mp4_plays_everywhere(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", smooth(height=31, width=47), 29.97)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width, stream.frames) == (32, 48, 8)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # faststart
    back, fps = read_video(tmp_path / "a.mp4")
    assert fps == pytest.approx(29.97, abs=1e-3)
    assert (back[..., 31, :] - back[..., 30, :]).abs().mean() < 0.02  # the row that was added is a copy of the edge


def test_gif_joins_equal_frames_and_keeps_the_time(tmp_path: Path) -> None:
    video = smooth()[:, [0, 0, 0, 4, 4, 4]]
    write_video(tmp_path / "a.gif", video, 30)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"]) == (2, 0)  # type: ignore[attr-defined]
        durations = []
        for i in range(2):
            gif.seek(i)
            durations.append(gif.info["duration"])
    assert durations == [100, 100]


def test_start_length_and_size(tmp_path: Path) -> None:
    video = smooth()
    for name in ("a.mp4", "a"):
        write_video(tmp_path / name, video, 25)
        whole, _ = read_video(tmp_path / name)
        piece, _ = read_video(tmp_path / name, start=3, length=2)
        assert torch.equal(piece, whole[:, 3:5])
        assert torch.equal(read_video(tmp_path / name, start=5)[0], whole[:, 5:])
        small, _ = read_video(tmp_path / name, (16, 16))
        assert torch.allclose(small, F.interpolate(whole[..., 8:40], (16, 16), mode="bilinear", antialias=True))
        with pytest.raises(ValueError, match="has only 8 frames; 9 from frame 0 on"):
            read_video(tmp_path / name, length=9)
        with pytest.raises(ValueError, match="fewer frames; those from frame 8 on"):
            read_video(tmp_path / name, start=8)
        with pytest.raises(ValueError, match="start must be 0 or more and length 1 or more"):
            read_video(tmp_path / name, length=0)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for value, name in enumerate(["f2.png", "f10.png", "f010b.png", "f11.PNG"]):
        Image.new("L", (2, 2), value).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".f1.png").write_text("no picture")
    frames, fps = read_video(tmp_path)
    assert sorted(to_uint8(frames)[:, 0, 0, 0].tolist()[1:3]) == [1, 2]
    assert to_uint8(frames)[[0, 3], 0, 0, 0].tolist() == [0, 3]
    assert fps == 25


def test_a_folder_of_different_sizes_needs_a_size(tmp_path: Path) -> None:
    for i, size in enumerate([(4, 4), (6, 4)]):
        Image.new("L", size).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match=r"frame 1 of .* is 6x4 and the first one 4x4"):
        read_video(tmp_path)
    assert read_video(tmp_path, (4, 4))[0].shape == (3, 2, 4, 4)


def test_a_rotated_video_is_turned_upright(tmp_path: Path) -> None:
    stream_class = av.video.stream.VideoStream
    if not hasattr(stream_class, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a rotation")
    left_white = np.zeros((32, 64, 3), np.uint8)
    left_white[:, :32] = 255
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.set_display_rotation(90)  # counter-clockwise: the left side goes down
        container.mux(stream.encode(av.VideoFrame.from_ndarray(left_white, format="rgb24")))
        container.mux(stream.encode(None))
    frames, _ = read_video(tmp_path / "a.mp4")
    assert frames.shape == (3, 1, 64, 32)
    assert frames[:, :, :28].mean() < -0.9
    assert frames[:, :, 36:].mean() > 0.9


def test_frames_that_an_edit_list_cuts_off_are_not_missed(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mp4", smooth(), 25)
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.dts is not None and packet.duration:
                packet.pts, packet.dts = packet.pts - 3 * packet.duration, packet.dts - 3 * packet.duration
                packet.stream = copy
                target.mux(packet)
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert container.streams.video[0].frames == 8
    assert torch.equal(read_video(tmp_path / "cut.mp4")[0], read_video(tmp_path / "whole.mp4")[0][:, 3:])


def test_a_damaged_video_says_how_much_is_left(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", smooth(frames=40), 25)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(ValueError, match=r"a\.mp4 is damaged: only \d+ of 40 frames could be decoded") as caught:
        read_video(tmp_path / "a.mp4")
    frames, _ = read_video(tmp_path / "a.mp4", tolerant=True)
    assert 0 < frames.shape[1] < 40
    assert "\n" not in str(caught.value)


def test_bad_videos_are_refused_in_one_sentence_with_their_name(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mp4", smooth(), 25)
    write_video(tmp_path / "whole.gif", smooth(), 25)
    for name in ("whole.mp4", "whole.gif"):
        (tmp_path / f"cut-{name}").write_bytes((tmp_path / name).read_bytes()[:1300])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/whole.mp4\n")
    (tmp_path / "folder").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    for name, kind, text in (
        ("missing.mp4", FileNotFoundError, "there is no file"),
        ("empty.mp4", ValueError, "is an empty file"),
        ("text.mp4", ValueError, "is not a video"),
        ("list.mp4", ValueError, "is not a video"),  # a playlist could name any file or address
        ("sound.mp4", ValueError, "holds no pictures"),
        ("cut-whole.mp4", ValueError, "is not a video|is damaged"),
        ("cut-whole.gif", ValueError, "is damaged"),
        ("folder", ValueError, "holds no pictures"),
    ):
        with pytest.raises(kind, match=text) as caught:
            read_video(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


# Frame by frame


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
def test_frames_are_those_of_the_whole_video(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name, smooth(), 20)
    for options in ({}, {"size": (16, 16)}, {"start": 3, "length": 2}):
        rates, pictures = zip(*read_frames(tmp_path / name, **options), strict=True)
        whole, fps = read_video(tmp_path / name, **options)
        assert torch.equal(torch.stack(pictures, dim=1), whole)
        assert set(rates) == {fps}


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
@pytest.mark.parametrize("length", [1, 8])
def test_frames_one_by_one_give_the_bytes_of_the_tensor(tmp_path: Path, name: str, length: int) -> None:
    video = smooth(height=31, width=47)[:, [0, 1, 1, 2, 3, 4, 4, 4]][:, :length]
    for kind, given in (("tensor", video), ("list", list(video.unbind(1))), ("iterator", iter(video.unbind(1)))):
        write_video(tmp_path / kind / name, given, 12.5)
        written = sorted(path for path in (tmp_path / kind).rglob("*") if path.is_file())
        assert len(written) == (length if name == "a" else 1)
        expected = [tmp_path / "tensor" / path.relative_to(tmp_path / kind) for path in written]
        assert [path.read_bytes() for path in written] == [path.read_bytes() for path in expected], kind


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
def test_frames_are_let_go_as_soon_as_they_are_written(tmp_path: Path, name: str) -> None:
    base = smooth(2, 16, 16)
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def source() -> Iterator[Tensor]:
        nonlocal most
        for i in range(600):
            frame = torch.lerp(base[:, 0], base[:, 1], i / 600)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    write_video(tmp_path / name, source(), 25)
    assert most <= 3
    assert sum(1 for _ in read_frames(tmp_path / name)) > 50  # a GIF joins equal ones


def test_a_long_video_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    """1,200 frames of 96x96 px are 133 MB as float32."""
    program = """if True:
        import resource, sys, torch
        from douga.video.io import frames, write_video
        torch.set_num_threads(1)
        x = torch.linspace(-1, 1, 96).expand(3, 96, 96)
        def peak(length):
            write_video(sys.argv[1], ((x * (1 + i % 50) / 50) for i in range(length)), 25)
            assert sum(1 for _ in frames(sys.argv[1])) == length
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        short = peak(100)
        print(peak(1200) - short)
    """
    command = [sys.executable, "-c", program, str(tmp_path / "a.mp4")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(answer.stdout) < 30  # MB


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
@pytest.mark.parametrize("at", [0, 3, 90])  # before the codec gives its first packet, and after
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), FileNotFoundError("there is no file maps/0003.png"), ValueError("a bad map")]
)
def test_a_source_that_fails_leaves_nothing_and_is_heard(
    tmp_path: Path, name: str, at: int, error: BaseException
) -> None:
    def source() -> Iterator[Tensor]:
        for i in range(at):
            yield smooth(1)[:, 0] * (i % 9) / 9
        raise error

    (tmp_path / "old").mkdir()
    if name != "a":
        (tmp_path / "old" / name).write_text("old")
    before = sorted(tmp_path.rglob("*"))
    for folder in ("old", "new/er"):
        with pytest.raises(type(error)) as caught:
            write_video(tmp_path / folder / name, source(), 25)
        assert caught.value is error  # and not as something that could not be written
    assert sorted(tmp_path.rglob("*")) == before
    assert all(path.read_text() == "old" for path in before if path.is_file())


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
def test_frames_that_cannot_be_a_video_are_refused(tmp_path: Path, name: str) -> None:
    good = torch.zeros(3, 8, 8)
    for given, text in (
        ([], "nothing to write .*: there are no frames"),
        ([good, good * torch.nan], "NaN"),
        ([good, torch.zeros(3, 8, 6)], r"frame 1 .* \(3, 8, 6\) and the first one \(3, 8, 8\)"),
        ([torch.zeros(1, 8, 8)], r"shape \(1, 8, 8\) to .*: a frame is \(3 or 4, height, width\)"),
    ):
        with pytest.raises(ValueError, match=text):
            write_video(tmp_path / "new" / name, iter(given), 25)
    assert not any(tmp_path.iterdir())


# Times and sound


def filmed(path: Path, times_ms: list[int], sound: str = "", late_ms: int = 0) -> None:
    """A video of frames shown at these times, and a tone beside it that begins with the first of them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.options = {"threads": "1"}
        stream.codec_context.time_base = Fraction(1, 1000)
        tone = container.add_stream(sound, rate=8000, layout="mono") if sound else None
        for time, pixels in zip(times_ms, to_uint8(smooth(len(times_ms))), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time + late_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            samples = np.sin(np.arange(8 * (times_ms[-1] + 40)) / 5)
            kind = tone.codec_context.format.name
            whole = samples[None].astype(np.float32) if kind == "fltp" else (samples[None] * 9999).astype(np.int16)
            for i in range(0, whole.shape[1], 1024):
                piece = av.AudioFrame.from_ndarray(whole[:, i : i + 1024].copy(), format=kind, layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 8000, i + 8 * late_ms, Fraction(1, 8000)
                container.mux(tone.encode(piece))
            container.mux(tone.encode(None))


def packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """The sound of a video: when each piece is heard, and its bytes."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(track) if p.pts is not None and p.time_base]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_come_with_the_times_of_the_file(tmp_path: Path, name: str) -> None:
    times = [0, 40, 80, 200, 240, 500]
    filmed(tmp_path / name, times)
    found = list(shown(tmp_path / name))
    assert [1000 * (each.seconds - found[0].seconds) for each in found] == times
    whole, _ = read_video(tmp_path / name)
    assert torch.equal(torch.stack([each.frame for each in found], 1), whole)


def test_a_gif_and_a_folder_have_times_too(tmp_path: Path) -> None:
    write_video(tmp_path / "a.gif", smooth()[:, [0, 0, 0, 4, 6]], 20)
    assert [each.seconds for each in shown(tmp_path / "a.gif")] == [0, Fraction(15, 100), Fraction(20, 100)]
    deep = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    write_video(tmp_path / "a", deep, 20, bits=16, number=7)
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == ["0007.png", "0008.png", "0009.png"]
    found = list(shown(tmp_path / "a"))
    assert [(each.seconds, each.fps, each.bits, len(each.frame)) for each in found] == [
        (Fraction(i, 25), 25, 16, 4) for i in range(3)
    ]
    Image.new("RGB", (9, 8)).save(tmp_path / "a" / "x.png")
    with pytest.raises(ValueError, match=r"frame 3 of .* is 9x8 and the first one 8x8"):
        list(shown(tmp_path / "a"))


def test_times_grow_even_in_a_broken_file(real_data: Path) -> None:
    times = [each.seconds for each in shown(real_data / "ucf101/TrumanShow_wave_f_nm_np1_fr_med_26.avi")]
    assert len(times) == 48
    assert all(later > earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize("late_ms", [0, 320])
def test_sound_is_copied_as_it_is_and_stays_in_time(tmp_path: Path, late_ms: int) -> None:
    filmed(tmp_path / "a.mkv", [40 * i for i in range(30)], "aac", late_ms)
    assert sound(tmp_path / "a.mkv") == ("aac", True)
    start = next(iter(shown(tmp_path / "a.mkv"))).seconds
    for out in ("b.mp4", "c.mp4"):
        write_video(tmp_path / out, smooth(60), 50, sound=(tmp_path / "a.mkv", start))
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()
    given, copied = packets(tmp_path / "a.mkv"), packets(tmp_path / "b.mp4")
    assert [data for _, data in given] == [data for _, data in copied]
    first = next(iter(shown(tmp_path / "b.mp4"))).seconds
    # Matroska's clock counts in ms.
    assert all(
        abs((a - start) - (b - first)) <= Fraction(1, 1000) for (a, _), (b, _) in zip(given, copied, strict=True)
    )


def test_sound_that_an_mp4_cannot_hold_is_known_before(tmp_path: Path) -> None:
    filmed(tmp_path / "a.mov", [0, 40], "pcm_mulaw")
    assert sound(tmp_path / "a.mov") == ("pcm_mulaw", False)
    filmed(tmp_path / "b.mp4", [0, 40])
    assert sound(tmp_path / "b.mp4") == sound(tmp_path) == ("", False)


# Nothing that existed is lost, nothing half-written is left


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a", "a.png"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, RuntimeError])
def test_a_write_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise error("disk full")

    (tmp_path / "old").mkdir()
    if name != "a":
        (tmp_path / "old" / name).write_text("old")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(io.os, "replace", fail)  # the last step: everything else has been written by then
    for folder in ("old", "new/er"):
        path = tmp_path / folder / name
        with pytest.raises(error, match="disk full"):
            _ = write_image(path, smooth()[:, 0]) if name == "a.png" else write_video(path, smooth(), 25)
    assert sorted(tmp_path.rglob("*")) == before
    assert all(path.read_text() == "old" for path in before if path.is_file())


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_video(tmp_path / "out", smooth(), 25)  # empty: taken
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert [path.name for path in sorted(before)] == [f"{i:04d}.png" for i in range(8)]
    with pytest.raises(FileExistsError, match="not empty"):
        write_video(tmp_path / "out", smooth().flip(1), 25)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_places_that_cannot_be_written_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("file/a.mp4", "file", "folder.mp4"):
        with pytest.raises(OSError, match="cannot write") as caught:
            write_video(tmp_path / name, smooth(), 25)
        assert str(tmp_path / name) in str(caught.value)

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "a name that the user never gave")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(OSError, match=r"cannot write .*new/a\.png: Permission denied$"):
        write_image(tmp_path / "new" / "a.png", smooth()[:, 0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.mp4"]


def test_a_video_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    video = smooth()
    with pytest.raises(ValueError, match=r"\.mp4 or \.gif"):
        write_video(tmp_path / "new" / "a.avi", video, 25)
    with pytest.raises(ValueError, match="8 or 16 bits for each value, not 12"):
        write_video(tmp_path / "new" / "a", video, 25, bits=12)
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps must lie between"):
            write_video(tmp_path / "new" / "a.mp4", video, fps)
    with pytest.raises(ValueError, match="nothing to write"):
        write_video(tmp_path / "new" / "a.mp4", video[:, :0], 25)
    assert not any(tmp_path.iterdir())


def test_is_video_goes_by_the_name() -> None:
    assert io.is_video("A.MP4")
    assert io.is_video(Path("b.gif"))
    assert not io.is_video("c.png")
    assert not io.is_video("folder")


def test_real_videos_are_read_whole(real_data: Path) -> None:
    for name, frames in (
        ("kth/person09_running_d1_uncomp.avi", 325),
        # claims 49: two frames come packed into one, and the byte that follows them counts as one more
        ("ucf101/TrumanShow_wave_f_nm_np1_fr_med_26.avi", 48),
        # its title is not UTF-8
        ("ucf101/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi", 83),
        ("bair_kth_gif/kth_00004.gif", 40),
    ):
        video, fps = read_video(real_data / name, (16, 16))
        assert video.shape == (3, frames, 16, 16), name
        assert 1 < fps <= 60
        assert video.std() > 0.05
