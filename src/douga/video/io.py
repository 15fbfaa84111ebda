"""Pictures and videos in and out of files. The only room where codecs and uint8 (T, H, W, C) live.

Inside douga a picture is (3, H, W) and a video (3, T, H, W): float32, RGB in [-1, 1]. Colour profiles are not applied.
A 4th plane is alpha, -1 where nothing is seen; the colour is not multiplied with it.
Whatever is written is written beside its destination first and then moved there: a file is whole, or it is not there.
What is long goes frame by frame: `frames` reads so, and `write_video` takes an iterator.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import chain, islice
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from av.video.reformatter import Colorspace, VideoReformatter
from jaxtyping import Float, Int32, UInt, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from douga.video.ops import fit

MAX_PIXELS = 64_000_000  # of one picture or one frame: 800 MB as float32
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
RECIPE_KEY = "douga"  # of the text in a PNG
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".ts", ".3gp", ".gif"}
)
# Playlists and the like stay out: they are short texts that make the decoder open other files and addresses.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegvideo,mpegts,h264,hevc,m4v,asf,flv,ogg"
SAFELY = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}


def is_video(path: str | Path) -> bool:
    """Whether the name is one of a video file or an animated GIF."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def to_uint8(frames: Float[Tensor, "c t h w"], bits: int = 8) -> UInt[np.ndarray, "t h w c"]:
    """[-1, 1] to 0-255, or to 0-65535 if `bits` is 16, rounded; what lies outside is clamped. Raises ValueError for NaN."""
    if frames.isnan().any():
        raise ValueError("the frames hold values that are not numbers (NaN), so they cannot be written")
    top, kind = (255, torch.uint8) if bits == 8 else (65535, torch.uint16)
    scaled = ((frames.detach() + 1) * (top / 2)).round().clamp(0, top).to(kind)
    return scaled.permute(1, 2, 3, 0).contiguous().cpu().numpy()


def from_uint8(frames: UInt8[np.ndarray, "t h w c"]) -> Float[Tensor, "c t h w"]:
    """0-255 to [-1, 1]; `to_uint8` gives every value back."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2).float().div(127.5).sub(1).contiguous()


def read_image(path: str | Path) -> Float[Tensor, "3 h w"]:
    """Any picture that Pillow reads, upright as its EXIF orientation says, grey as RGB.

    Transparency is laid on white. 16-bit grey keeps its 16 bits, colour is read with 8; float grey must lie in [0, 1].
    Of an animated file, the first frame.
    Raises FileNotFoundError, or ValueError for what is no picture, is damaged, or has more than MAX_PIXELS pixels.
    """
    with _picture(path) as picture:
        return _pixels(ImageOps.exif_transpose(picture))


def read_picture(path: str | Path) -> tuple[Float[Tensor, "c h w"], int]:
    """A picture as `read_image` takes it, with all that its file holds, and its bits for each value, 8 or 16.

    (4, H, W) where the file knows transparency, its colours as they are stored; else (3, H, W). PNG and TIFF of 16 bits keep
    them, colour too; what has more has its values as float32, and counts as 16. Raises as `read_image` does.
    """
    with _picture(path) as picture:
        if picture.mode[0] in "IF":
            return _grey(picture), 16
        # The form in which it is stored: of colour in "RGB;16B", Pillow reads 8 bits.
        stored = next((tile[3] for tile in getattr(picture, "tile", ())), "")
        if picture.format in ("PNG", "TIFF") and ";16" in str(stored[0] if isinstance(stored, tuple) else stored):
            return _deep(Path(path), picture), 16
        kind = "RGBA" if picture.has_transparency_data else "RGB"
        return from_uint8(np.array(ImageOps.exif_transpose(picture).convert(kind))[None])[:, 0], 8


def read_labels(path: str | Path) -> Int32[Tensor, "h w"]:
    """A label map: the number that the file stores for each pixel, of a palette the index and not the colour.

    Grey of 1, 2, 4, 8 or 16 bits or a palette, upright as its EXIF orientation says.
    Raises FileNotFoundError, or ValueError as `read_image` and for colour, transparency beside grey, or JPEG.
    """
    with _picture(path) as picture:
        mode, kind = picture.mode, picture.format
        # Pillow spreads grey of 2 and 4 bits over 0 to 255.
        spread = next(({"L;2": 85, "L;4": 17}.get(str(tile[3]), 1) for tile in getattr(picture, "tile", ())), 1)
        stored = np.array(ImageOps.exif_transpose(picture))
    if mode not in ("1", "L", "P", "I", "I;16", "I;16B") or kind == "JPEG":  # of these, JPEG alone changes values
        raise ValueError(
            f"{path} ({kind}, {mode}) is not a label map: save it as a PNG in 8-bit grey or with a palette, "
            "the number of the class as the value of each pixel"
        )
    return torch.from_numpy(stored.astype(np.int32) // spread)


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder, which are the frames of a video: 2.png before 10.png. ValueError if there are none."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise ValueError(f"the folder {folder} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(found, key=lambda p: [int(s) if i % 2 else s for i, s in enumerate(re.split("([0-9]+)", p.name))])


def read_video(
    path: str | Path,
    size: tuple[int, int] | None = None,
    start: int = 0,
    length: int | None = None,
    *,
    tolerant: bool = False,
) -> tuple[Float[Tensor, "3 t h w"], float]:
    """The frames and the frames per second of a video file, an animated GIF, or a folder of pictures: `frames` at once.

    Where frames are not evenly spaced in time, fps is their average rate.
    """
    fps, pictures = 25.0, []
    for fps, picture in frames(path, size, start, length, tolerant=tolerant):  # noqa: B007  (the last one's fps)
        pictures.append(picture)
    return torch.stack(pictures, dim=1), fps


def frames(
    path: str | Path,
    size: tuple[int, int] | None = None,
    start: int = 0,
    length: int | None = None,
    *,
    tolerant: bool = False,
) -> Iterator[tuple[float, Float[Tensor, "3 h w"]]]:
    """One frame after another of a video file, an animated GIF, or a folder of pictures, each with the frames per second.

    Frames count in the order of decoding (2.png before 10.png in a folder, with 25 fps) and are turned upright. Memory
    does not grow with their number.

    size: (height, width); each frame is cut to this aspect around its centre and resized as soon as it is decoded.
    start, length: the first frame and how many; by default all.
    tolerant: accept that a damaged video gives fewer frames than it says it has.
    Raises, as soon as it is noticed and at the first frame at the earliest: FileNotFoundError, or ValueError for what
    is no video, is damaged, or has too few frames, too large ones, or without a size some of another size.
    """
    path = Path(path)
    if start < 0 or (length is not None and length < 1):
        raise ValueError(f"start must be 0 or more and length 1 or more, not {start} and {length}")
    stop = None if length is None else start + length
    source: Iterator[tuple[float, Tensor]]
    if path.is_dir():
        source = ((25.0, read_image(picture)) for picture in picture_files(path)[start:stop])
    else:
        source = ((float(shown.fps), shown.frame) for shown in islice(_file(path, tolerant=tolerant), start, stop))
    count, first_h, first_w = 0, 0, 0
    for fps, frame in source:
        h, w = frame.shape[1:]
        if count == 0:
            first_h, first_w = h, w
        if (h, w) != (first_h, first_w) and size is None:
            raise ValueError(
                f"frame {start + count} of {path} is {w}x{h} and the first one {first_w}x{first_h}: "
                "give the size that all are to be brought to"
            )
        count += 1
        yield fps, frame if size is None else fit(frame, size)
    if count == 0 or (length is not None and count < length):
        wanted = f"{length} from frame {start} on" if length is not None else f"those from frame {start} on"
        raise ValueError(f"{path} has only {start + count if count else 'fewer'} frames; {wanted} were asked for")


@dataclass(frozen=True)
class Shown:
    """A frame of a video and when it is shown.

    frame: (3, H, W) or, with alpha, (4, H, W). seconds: when it begins, by the file's own clock, which need not start at 0.
    fps: the video's average rate. bits: of each of its values in the file, 8 or 16.
    """

    frame: Float[Tensor, "c h w"]
    seconds: Fraction
    fps: Fraction
    bits: int = 8


def shown(path: str | Path) -> Iterator[Shown]:
    """The frames of a video file, an animated GIF or a folder of pictures, with their times, which grow from one to the next.

    As `frames`, but the pictures of a folder, shown at 25 fps, keep alpha and 16 bits. Raises as `frames` does without a size.
    """
    path = Path(path)
    first: tuple[int, ...] = ()
    before = None
    source = _file(path, tolerant=False)
    if path.is_dir():
        pictures = enumerate(map(read_picture, picture_files(path)))
        source = (Shown(frame, Fraction(i, 25), Fraction(25), bits) for i, (frame, bits) in pictures)
    for i, now in enumerate(source):
        (h, w), first = now.frame.shape[1:], first or now.frame.shape[1:]
        if (h, w) != first:
            raise ValueError(
                f"frame {i} of {path} is {w}x{h} and the first one {first[1]}x{first[0]}: make all one size"
            )
        if before is not None and now.seconds <= before:  # a broken clock: two frames at one time, or time runs back
            now = Shown(now.frame, before + 1 / now.fps, now.fps, now.bits)
        before = now.seconds
        yield now


def sound(path: str | Path) -> tuple[str, bool]:
    """The codec of a video file's sound, "" if it has none or is no video file, and whether an MP4 can hold it as it is."""
    if Path(path).is_dir():
        return "", False
    try:
        source = av.open(str(path), metadata_errors="replace", container_options=SAFELY)
    except av.error.FFmpegError:  # a GIF
        return "", False
    with source:
        track = next(iter(source.streams.audio), None)
        if track is None or track.codec_context is None:
            return "", False
        try:
            with av.open(BytesIO(), "w", format="mp4") as trial:
                trial.add_stream_from_template(track)
                trial.start_encoding()
        except (av.error.FFmpegError, ValueError):
            return track.codec_context.name, False
        return track.codec_context.name, True


def write_image(path: str | Path, frame: Float[Tensor, "3 h w"], *, recipe: str | None = None) -> None:
    """Write a picture in the format of the suffix, over what is there.

    recipe: what `read_recipe` is to give back; PNG alone keeps it. ValueError for an unknown suffix, OSError.
    """
    path = Path(path)
    if recipe and path.suffix.lower() != ".png":
        raise ValueError(f"cannot write how it was made into {path}: of pictures, only a .png keeps it")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"cannot write a picture to {path}: the name must end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    pixels = to_uint8(frame[:, None])[0]
    with _beside(path) as draft:
        if path.suffix.lower() == ".png":
            draft.write_bytes(_png(pixels, recipe))
        else:
            Image.fromarray(pixels).save(draft, quality=95, subsampling=0)


def write_video(
    path: str | Path,
    frames: Float[Tensor, "c t h w"] | Iterable[Float[Tensor, "c h w"]],
    fps: float,
    *,
    bits: int = 8,
    recipe: str | None = None,
    sound: tuple[Path, Fraction] | None = None,
    number: int = 0,
) -> None:
    """Write a video in the form of the name: .mp4 (H.264), .gif, or no suffix for a folder of 0000.png, 0001.png, ...

    frames: a video, or its frames one after another, which are then taken one at a time: memory does not grow with
    their number (in a GIF by a byte for each pixel). What their iterator raises goes through, and nothing is written.

    They have 3 planes, or 4 with alpha: PNGs keep it, a GIF shows what is half seen or more, under an MP4 lies white.
    bits: of each value in a PNG, 8 or 16. recipe: a JSON object that `read_recipe` gives back, how the video was made.
    sound: for an MP4, a video file whose sound is copied as it is (see `sound`), and what its clock shows when the first
    frame is shown. number: that of the first PNG.

    The same frames and recipe give the same bytes. A file is written over; a folder must be new or empty. H.264 needs even
    sides: an odd one gets one more row or column, a copy of the edge. A GIF joins equal frames into one that is shown longer.
    Raises ValueError for an unknown suffix, an fps outside 0.01 to 1000, other bits, no frames, NaN or frames of several
    sizes, OSError where it cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".mp4", ".gif", ""):
        raise ValueError(
            f"cannot write a video to {path}: the name must end in .mp4 or .gif, or have no suffix (a folder of PNGs)"
        )
    if not 0.01 <= fps <= 1000:
        raise ValueError(f"fps must lie between 0.01 and 1000, not {fps}")
    if bits not in (8, 16):
        raise ValueError(f"a picture has 8 or 16 bits for each value, not {bits}")
    if isinstance(frames, Tensor):
        if 0 in frames.shape:
            raise ValueError(f"there is nothing to write to {path}: the video's shape is {tuple(frames.shape)}")
        frames = frames.unbind(1)
    try:
        with _beside(path) as draft:
            pixels = _as_pixels(path, frames, 8 if suffix else bits)
            if suffix == ".mp4":
                _write_mp4(draft, pixels, fps, recipe, sound)
            elif suffix == ".gif":
                _write_gif(draft, pixels, fps, recipe)
            else:
                draft.mkdir()
                for i, frame in enumerate(pixels):
                    (draft / f"{i + number:04d}.png").write_bytes(_png(frame, None if i else recipe))
    except _SourceError as error:
        raise error.reason from None


def read_recipe(path: str | Path) -> str | None:
    """The recipe that `write_video` or `write_image` put into a file, or into the first picture of a folder.

    None if there is none. Raises as `frames` does, ValueError too for a folder without pictures.
    """
    path = Path(path)
    if path.is_dir():
        path = picture_files(path)[0]
    _check_file(path, "video")
    if path.suffix.lower() in IMAGE_SUFFIXES or path.suffix.lower() == ".gif":
        with _picture(path) as picture:
            text = picture.info.get("comment" if picture.format == "GIF" else RECIPE_KEY, "")
            text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    else:
        try:
            with av.open(str(path), metadata_errors="replace", container_options=SAFELY) as container:
                text = container.metadata.get("comment", "")
        except av.error.FFmpegError as error:
            raise ValueError(f"{path} is not a video that can be read ({error.strerror})") from error
    try:  # anybody may comment on a video
        return text if isinstance(json.loads(text), dict) else None
    except ValueError:
        return None


class _SourceError(Exception):
    """What the frames' own iterator raised: an OSError of reading must not be told as one of writing."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason


def _as_pixels(path: Path, frames: Iterable[Float[Tensor, "c h w"]], bits: int) -> Iterator[UInt[np.ndarray, "h w c"]]:
    """The frames for a codec, one at a time. ValueError for none, an empty one, or one of another size."""
    source, first, count = iter(frames), None, 0
    while True:
        try:
            frame = next(source, None)
        except Exception as error:
            raise _SourceError(error) from error
        if frame is None:
            break
        first = first or tuple(frame.shape)
        if len(first) != 3 or first[0] not in (3, 4) or 0 in first:
            raise ValueError(f"cannot write frames of the shape {first} to {path}: a frame is (3 or 4, height, width)")
        if tuple(frame.shape) != first:
            raise ValueError(
                f"frame {count} for {path} has the shape {tuple(frame.shape)} and the first one {first}: "
                "the frames of a video are all of one size"
            )
        count += 1
        yield to_uint8(frame[:, None], bits)[0]
    if count == 0:
        raise ValueError(f"there is nothing to write to {path}: there are no frames")


def _check_file(path: Path, kind: str) -> None:
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a {kind}")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is an empty file, not a {kind}")


@contextmanager
def _picture(path: str | Path) -> Iterator[Image.Image]:
    """Open a picture, and say in one sentence what is wrong with it, now or while it is decoded."""
    path = Path(path)
    _check_file(path, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is the lower one
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                if picture.format == "EPS":
                    raise ValueError("PostScript is a program, and is not run")
                yield picture
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture that can be read") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path} has more than the {MAX_PIXELS:,} pixels that are the limit: make it smaller"
        ) from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise almost anything
        raise ValueError(f"{path} is damaged or of a kind that cannot be read: {error}") from error


def _grey(picture: Image.Image) -> Float[Tensor, "c h w"]:
    """Grey of 16 or 32 bits, which Pillow would clip to 8: as RGB, with alpha if one of its values stands for nothing."""
    picture = ImageOps.exif_transpose(picture)
    grey = torch.from_numpy(np.array(picture, dtype=np.float32))
    top = 1 if picture.mode == "F" else 65535
    if not (grey.min() >= 0 and grey.max() <= top):
        raise ValueError(f"its values must lie between 0 and {top}")
    planes = (grey / top * 2 - 1).expand(3, -1, -1)
    if "transparency" in picture.info:
        planes = torch.cat([planes, torch.where(grey == picture.info["transparency"], -1.0, 1.0)[None]])
    return planes.contiguous()


# How a picture lies in its file, as EXIF says: whether it is mirrored left to right, then how many quarters to turn it
# counter-clockwise.
ORIENTATIONS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}


def _deep(path: Path, picture: Image.Image) -> Float[Tensor, "c h w"]:
    """A PNG or TIFF in 16-bit colour, or grey with alpha."""
    picture.load()  # says what is wrong with a damaged file; OpenCV does not
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("its 16 bits cannot be read: save it as a PNG")
    if picture.format == "PNG":  # of a TIFF, OpenCV turns it itself
        mirrored, quarters = ORIENTATIONS.get(picture.getexif().get(0x0112, 1), (False, 0))
        decoded = np.rot90(decoded[:, ::-1] if mirrored else decoded, quarters)
    order = [2, 1, 0, 3] if decoded.shape[2] == 4 and picture.has_transparency_data else [2, 1, 0]
    unit = torch.from_numpy(decoded[..., order].astype(np.float32)).permute(2, 0, 1) / 65535
    if len(order) == 4 and getattr(picture, "tag_v2", {}).get(338) == (1,):  # ExtraSamples: multiplied with alpha
        unit[:3] = (unit[:3] / unit[3:].clamp(min=1e-9)).clamp(max=1)
    return (unit * 2 - 1).contiguous()


def _pixels(picture: Image.Image) -> Float[Tensor, "3 h w"]:
    if picture.mode[0] in "IF":
        grey = _grey(picture)
        return grey if len(grey) == 3 else torch.where(grey[3] > 0, grey[:3], 1.0)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return from_uint8(np.array(picture.convert("RGB"))[None])[:, 0]


def _file(path: Path, *, tolerant: bool) -> Iterator[Shown]:
    _check_file(path, "video")
    with path.open("rb") as file:
        is_gif = file.read(4) == b"GIF8"
    yield from _gif(path) if is_gif else _stream(path, tolerant=tolerant)


def _gif(path: Path) -> Iterator[Shown]:
    with _picture(path) as picture:
        begins = [Fraction(0)]
        for i in range(count := getattr(picture, "n_frames", 1)):
            picture.seek(i)
            # Browsers show a frame without a time for 0.1 s.
            begins.append(begins[-1] + Fraction(round(picture.info.get("duration") or 100), 1000))
        for i in range(count):
            picture.seek(i)
            yield Shown(_pixels(picture), begins[i], count / begins[-1])


def _stream(path: Path, *, tolerant: bool) -> Iterator[Shown]:
    decoded = claimed = 0
    try:
        with av.open(str(path), metadata_errors="replace", container_options=SAFELY) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None or stream.codec_context is None:
                raise ValueError(f"{path} holds no pictures that can be decoded")
            if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
                raise ValueError(f"the frames of {path} have more than the {MAX_PIXELS:,} pixels that are the limit")
            stream.thread_type = "AUTO"
            fps = stream.average_rate or stream.guessed_rate or Fraction(25)
            claimed = stream.frames  # 0: the container does not say
            to_rgb = VideoReformatter()
            for packet in container.demux(stream):
                # Not lost: what an edit list cuts off, and the one byte that follows two frames packed into one.
                claimed -= packet.is_discard or packet.size == 1
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    if not tolerant:
                        raise
                    continue
                for frame in frames:
                    seconds = decoded / fps
                    if (
                        frame.pts is not None and frame.time_base and container.format.name != "avi"
                    ):  # which has no times
                        seconds = frame.pts * frame.time_base
                    decoded += 1
                    upright = np.rot90(to_rgb.reformat(frame, format="rgb24").to_ndarray(), frame.rotation // 90)
                    yield Shown(from_uint8(upright[None].copy())[:, 0], seconds, fps)
    except av.error.FFmpegError as error:
        if decoded == 0:
            raise ValueError(f"{path} is not a video that can be read ({error.strerror})") from error
        if not tolerant:
            of = f" of {claimed}" if claimed > 0 else ""
            raise ValueError(
                f"{path} is damaged: only {decoded}{of} frames could be decoded ({error.strerror})"
            ) from error
    if decoded == 0 or (decoded < claimed and not tolerant):
        raise ValueError(f"{path} is damaged: only {decoded} of {max(claimed, 0) or 'its'} frames could be decoded")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path in a new hidden folder beside `path`; what is written there is moved to `path` if nothing fails."""
    if path.suffix and path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; choose another name")
    if not path.suffix and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"cannot write the folder {path}: it is already there and not empty; choose another name")
    made = [folder for folder in path.parents if not folder.exists()]  # the innermost first
    done = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".douga-", dir=path.parent) as draft:
            yield Path(draft) / path.name
            os.replace(Path(draft) / path.name, path)
        done = True
    except (OSError, av.error.FFmpegError) as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if not done:
            for folder in made:
                with suppress(OSError):  # it was not made after all, or somebody else has put something there
                    folder.rmdir()


def _png(pixels: UInt[np.ndarray, "h w c"], recipe: str | None) -> bytes:
    """A PNG file of 8 or 16 bits, 3 or 4 planes, the same bytes for the same pixels."""
    if pixels.dtype == np.uint16:  # Pillow writes none in colour
        kind = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        written, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, kind))
        assert written
        png = encoded.tobytes()
    else:
        file = BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        png = file.getvalue()
    if not recipe:
        return png
    chunk = b"iTXt" + RECIPE_KEY.encode() + bytes(5) + recipe.encode()  # not compressed, of no language
    chunk = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return png[:33] + chunk + png[33:]  # behind the signature and the header


def _write_gif(path: Path, frames: Iterator[UInt8[np.ndarray, "h w c"]], fps: float, recipe: str | None) -> None:
    delays: list[int] = []  # Pillow looks up a frame's delay when it has taken the frame

    def quantised() -> Iterator[Image.Image]:
        for i, pixels in enumerate(frames):
            # Delays are whole 1/100 s: rounding the running time keeps the whole in step.
            delays.append(10 * max(round(100 * (i + 1) / fps) - round(100 * i / fps), 1))
            if pixels.shape[2] == 3:
                yield Image.fromarray(pixels).quantize(256)
                continue
            numbers = Image.fromarray(pixels[..., :3]).quantize(255)
            seen = Image.fromarray(np.where(pixels[..., 3] < 128, np.uint8(255), np.array(numbers)), mode="P")
            seen.putpalette((numbers.getpalette() or []) + [0] * (768 - len(numbers.getpalette() or [])))
            seen.info["transparency"] = 255
            yield seen

    others = quantised()
    first = next(others)
    # Behind what is not seen stands nothing, and not the frame before.
    options: dict[str, object] = {"disposal": 2} if "transparency" in first.info else {}
    if recipe:
        options["comment"] = recipe.encode()
    first.save(path, format="GIF", save_all=True, append_images=others, duration=delays, loop=0, **options)


def _write_mp4(
    path: Path,
    frames: Iterator[UInt8[np.ndarray, "h w c"]],
    fps: float,
    recipe: str | None,
    sound: tuple[Path, Fraction] | None,
) -> None:
    first = next(frames)
    height, width = first.shape[:2]
    rate = Fraction(fps).limit_denominator(1001)
    container_options = {"movflags": "+faststart", "fflags": "+bitexact"}  # bitexact: no date, no version
    with ExitStack() as opened:
        container = opened.enter_context(av.open(str(path), "w", format="mp4", container_options=container_options))
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.options = {"crf": "12", "threads": "4"}  # the bytes depend on the number of threads
        if torch.backends.cpu.get_cpu_capability() == "AVX512":
            # With these instructions x264 lets stale memory decide how small pictures are coded; the others agree.
            stream.options = {**stream.options, "x264-params": "asm=avx2"}
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = codec.color_range = 1  # BT.709, 16-235
        if recipe:
            container.metadata["comment"] = recipe
        heard = _packets(container, opened, *sound) if sound else iter(())
        waiting = next(heard, None)
        to_yuv = VideoReformatter()
        for i, pixels in enumerate(chain([first], frames)):
            if pixels.shape[2] == 4:
                alpha = pixels[..., 3:] / 255
                pixels = (pixels[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            rgb = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame = to_yuv.reformat(rgb, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range="MPEG")
            frame.pts = i
            container.mux(stream.encode(frame))
            while waiting and waiting[0] <= i / rate:  # side by side, so that neither has to be kept until the end
                container.mux(waiting[1])
                waiting = next(heard, None)
        container.mux(stream.encode(None))
        while waiting:
            container.mux(waiting[1])
            waiting = next(heard, None)


def _packets(
    container: av.container.OutputContainer, opened: ExitStack, path: Path, start: Fraction
) -> Iterator[tuple[Fraction, av.Packet]]:
    """The first sound of a video file as it is, for `container`, and when each piece is heard; `start` becomes 0."""
    source = opened.enter_context(av.open(str(path), metadata_errors="replace", container_options=SAFELY))
    track = source.streams.audio[0]
    copy = container.add_stream_from_template(track)

    def shifted() -> Iterator[tuple[Fraction, av.Packet]]:
        for packet in source.demux(track):
            if packet.dts is None or packet.pts is None:  # the last one of a stream is empty
                continue
            base = packet.time_base
            packet.pts, packet.dts = packet.pts - round(start / base), packet.dts - round(start / base)
            packet.stream = copy
            yield packet.pts * base, packet

    return shifted()
