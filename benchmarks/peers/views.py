"""Makes photos to train on, JPEGs in a folder for each class, the same for the same seed.

    python3 benchmarks/peers/views.py --out photos --count 1000 --seed 1 --photos DIR

They are views of the real photos in DIR, which has a folder for each class: cut out, flipped, brighter or darker. A fifth goes to OUT/validation, views of
photos of which OUT/train has none. Without DIR they are textures, whose stripes and colours tell the classes apart.
"""

import argparse
import pathlib
import random

import numpy
from PIL import Image, ImageEnhance

VALIDATION = 0.2
LONGER_SIDE = 480
TEXTURES = 8


def opened(path):
    """On white, where it is transparent."""
    photo = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", photo.size, "white")
    return Image.alpha_composite(white, photo).convert("RGB")


def view(photo, draw):
    width, height = (round(side * draw.uniform(0.6, 1)) for side in photo.size)
    left, top = draw.randint(0, photo.width - width), draw.randint(0, photo.height - height)
    part = photo.crop((left, top, left + width, top + height))
    scale = LONGER_SIDE / max(part.size)
    part = part.resize([max(1, round(side * scale)) for side in part.size], Image.Resampling.BILINEAR)
    if draw.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(part).enhance(draw.uniform(0.8, 1.2))


def texture(label, draw):
    """Stripes of a class's direction, width and colour, all a little off, under noise."""
    noise = numpy.random.default_rng(draw.getrandbits(32))
    angle, waves = numpy.pi * (label + draw.uniform(-0.3, 0.3)) / TEXTURES, (8 + 4 * (label % 3)) * draw.uniform(0.8, 1.2)
    y, x = numpy.mgrid[0 : 3 * LONGER_SIDE // 4, 0:LONGER_SIDE] / LONGER_SIDE
    stripes = numpy.sin(2 * numpy.pi * waves * (x * numpy.cos(angle) + y * numpy.sin(angle)) + draw.uniform(0, 6))
    colour = numpy.random.default_rng(label).uniform(20, 60, 3)
    return Image.fromarray((128 + stripes[..., None] * colour + noise.normal(0, 30, (*y.shape, 3))).clip(0, 255).astype(numpy.uint8))


def real(folder, draw):
    """By class, the photos to train on and those to validate with."""
    classes = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        photos = sorted(file for file in path.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
        if len(photos) < 2:
            raise SystemExit(f"{path}: expected two photos or more")
        draw.shuffle(photos)
        held_out = max(1, round(VALIDATION * len(photos)))
        classes[path.name] = {"validation": photos[:held_out], "train": photos[held_out:]}
    if len(classes) < 2:
        raise SystemExit(f"{folder}: expected a folder of photos for each of two classes or more")
    return classes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--photos", type=pathlib.Path)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    classes = real(options.photos, draw) if options.photos else {f"texture{label}": None for label in range(TEXTURES)}
    sizes = {"validation": round(VALIDATION * options.count)}
    sizes["train"] = options.count - sizes["validation"]
    for part, size in sizes.items():
        for number in range(size):
            label = number % len(classes)
            name, photos = list(classes.items())[label]
            file = options.out / part / name / f"{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            made = view(opened(photos[part][number // len(classes) % len(photos[part])]), draw) if photos else texture(label, draw)
            made.save(file, quality=90)


if __name__ == "__main__":
    main()
