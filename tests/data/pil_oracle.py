"""Writes images, what PIL (and for resampling it does not have, PyTorch and Keras) makes of them, and cases.json that lists both.

usage: pil_oracle.py OUT [PHOTO...]

A case of "decode" has a file and the RGB pixels expected of it; a case of "resize" has raw pixels before and after.
Raw arrays are {"file", "shape", "dtype"}, row-major, little-endian.
"""

import json
import os
import struct
import sys
import zlib
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import functional

OUT = Path(sys.argv[1])
PHOTOS = [Path(p) for p in sys.argv[2:]]
BACKGROUND = (10, 200, 30)
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "antialias": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
cases = {"decode": [], "resize": []}


def save(array):
    dtype = {"uint8": "u8", "float32": "f32"}[str(array.dtype)]
    name = f"{save.count}.bin"
    save.count += 1
    (OUT / name).write_bytes(np.ascontiguousarray(array).tobytes())
    return {"file": name, "shape": list(array.shape), "dtype": dtype}


save.count = 0


def picture(height, width, channels, seed):
    """Smooth colours, hard edges and noise, so that every filter has something to get wrong."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for c in range(channels):
        smooth = 127 + 90 * np.sin(x / (5 + 3 * c)) * np.cos(y / (7 + 2 * c))
        edges = 120 * ((x // 9 + y // 6 + c) % 2)
        planes.append(smooth + edges - 60 + random.normal(0, 12, (height, width)))
    return np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)


def rgb(image):
    """As graft reads it: upright, transparent pixels on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGB", image.size, (255, 255, 255))
        background.paste(image.convert("RGB"), mask=image.getchannel("A"))
        return background
    return image.convert("RGB")


def decode(name, expected=None):
    if expected is None:
        expected = np.asarray(rgb(Image.open(OUT / name)))
    cases["decode"].append({"what": name, "file": name, "expected": save(expected)})


def png16(pixels, color_type):
    height, width = pixels.shape[:2]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def decode_cases():
    color = Image.fromarray(picture(45, 61, 3, 1))
    grey = Image.fromarray(picture(33, 20, 1, 2)[:, :, 0])
    rgba = Image.fromarray(picture(31, 40, 4, 3))
    writings = {
        "420.jpg": (color, {"quality": 85, "subsampling": 2}),
        "422.jpg": (color, {"quality": 70, "subsampling": 1}),
        "444.jpg": (color, {"quality": 95, "subsampling": 0}),
        "progressive.jpg": (color, {"progressive": True}),
        "restarts.jpg": (color, {"restart_marker_rows": 1}),
        "stored_as_rgb.jpg": (color, {"keep_rgb": True}),
        "grey.jpg": (grey, {}),
        "cmyk.jpg": (color.convert("CMYK"), {"quality": 90}),
        "one_pixel.jpg": (color.crop((0, 0, 1, 1)), {}),
        "color.png": (color, {}),
        "grey.png": (grey, {}),
        "one_bit.png": (grey.convert("1"), {}),
        "grey_alpha.png": (rgba.convert("LA"), {}),
        "alpha.png": (rgba, {}),
        "palette.png": (color.quantize(50), {}),
        "four_colors.png": (color.quantize(4), {"bits": 2}),
        "palette_transparent.png": (color.quantize(16), {"transparency": bytes(range(0, 256, 16))}),
        "color_key.png": (color, {"transparency": color.getpixel((5, 5))}),
        "color.bmp": (color, {}),
    }
    for name, (image, options) in writings.items():
        image.save(OUT / name, **options)
        decode(name)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        color.save(OUT / f"exif_{orientation}.jpg", exif=exif)
        color.save(OUT / f"exif_{orientation}.png", exif=exif)
        decode(f"exif_{orientation}.jpg")
        decode(f"exif_{orientation}.png")
    for order, endian in ((b"II", "<"), (b"MM", ">")):
        entries = struct.pack(endian + "HHII", 0x0100, 4, 1, 61) + struct.pack(endian + "HHIHH", 0x0112, 3, 1, 6, 0)
        tiff = order + struct.pack(endian + "HIH", 42, 8, 2) + entries + struct.pack(endian + "I", 0)
        name = f"exif_{order.decode()}.jpg"
        color.save(OUT / name, exif=b"Exif\0\0" + tiff)
        decode(name)
    deep = picture(19, 23, 3, 4).astype(np.uint16) * 256 + picture(19, 23, 3, 5)
    (OUT / "deep.png").write_bytes(png16(deep, color_type=2))
    decode("deep.png", (deep >> 8).astype(np.uint8))
    (OUT / "deep_grey.png").write_bytes(png16(deep[:, :, :1], color_type=0))
    decode("deep_grey.png", np.repeat((deep[:, :, :1] >> 8).astype(np.uint8), 3, axis=2))
    for photo in PHOTOS:
        (OUT / photo.name).write_bytes(photo.read_bytes())
        decode(photo.name)


def resize_case(what, source, size, resampling, fit, expected, tolerance=0.0):
    cases["resize"].append({
        "what": what, "source": source, "height": size[1], "width": size[0], "resampling": resampling, "fit": fit,
        "background": BACKGROUND, "expected": save(np.asarray(expected)), "tolerance": tolerance,
    })


def interpolate(array, size):
    nchw = torch.from_numpy(array).float().permute(2, 0, 1)[None]
    result = torch.nn.functional.interpolate(nchw, (size[1], size[0]), mode="bilinear", align_corners=False)
    return result[0].permute(1, 2, 0).numpy()


def resize(image, size, pil):
    """Columns, then rows: what one call of PIL does up to version 12. Version 13 turns some tall images round."""
    return image.resize((size[0], image.height), pil).resize(size, pil)


def squash_and_pad(height, width, new_height, new_width):
    what = f"{height}x{width} to {new_height}x{new_width}"
    size = (new_width, new_height)
    color = picture(height, width, 3, height + width)
    real = picture(height, width, 1, 7).astype(np.float32) * 0.731 - 20
    image, grey = Image.fromarray(color), Image.fromarray(color[:, :, 0])
    stored_color, stored_grey, stored_real = save(color), save(color[:, :, :1]), save(real)
    for name, pil in FILTERS.items():
        resize_case(what, stored_color, size, name, "squash", resize(image, size, pil))
        resize_case(what + " grey", stored_grey, size, name, "squash", np.asarray(resize(grey, size, pil))[:, :, None])
        resized = np.asarray(resize(Image.fromarray(real[:, :, 0]), size, pil))[:, :, None]
        resize_case(what + " float", stored_real, size, name, "squash", resized)
        inner = ImageOps.contain(image, size, pil).size
        if min(inner) > 0:
            padded = ImageOps.pad(resize(image, inner, pil), size, pil, color=BACKGROUND)
            resize_case(what + " pad", stored_color, size, name, "pad", padded)
    resize_case(what, stored_color, size, "bilinear", "squash", interpolate(color, size), 2e-3)
    by_keras = keras.ops.image.resize(color.astype(np.float32), (size[1], size[0]), interpolation="bilinear", antialias=False)
    resize_case(what + " as Keras", stored_color, size, "bilinear", "squash", keras.ops.convert_to_numpy(by_keras), 2e-3)
    resize_case(what + " float", stored_real, size, "bilinear", "squash", interpolate(real, size), 2e-3)


def crop(height, width, size):
    color = picture(height, width, 3, size)
    modes = functional.InterpolationMode
    for name, mode in {"nearest": modes.NEAREST, "antialias": modes.BILINEAR, "bicubic": modes.BICUBIC}.items():
        covering = functional.resize(Image.fromarray(color), size, mode).size
        cropped = functional.center_crop(resize(Image.fromarray(color), covering, FILTERS[name]), [size, size])
        resize_case(f"{height}x{width} cropped to {size}", save(color), (size, size), name, "crop", cropped)


def resize_cases():
    for sizes in [(375, 500, 224, 224), (500, 333, 224, 224), (37, 53, 224, 160), (64, 64, 64, 64), (64, 48, 64, 31),
                  (50, 64, 77, 64), (300, 7, 11, 9), (1, 1, 5, 3), (9, 1, 4, 4), (224, 224, 1, 1), (100, 101, 50, 49),
                  (333, 500, 299, 299)]:
        squash_and_pad(*sizes)
    for sizes in [(375, 500, 224), (500, 333, 160), (41, 67, 96), (50, 50, 20), (31, 30, 29), (90, 41, 40)]:
        crop(*sizes)


decode_cases()
resize_cases()
(OUT / "cases.json").write_text(json.dumps(cases))
