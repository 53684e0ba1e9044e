"""The demo's inputs: drawn pictures in several forms, and two files that are broken on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from maskmill.deploy.demo.scenes import draw_scene

UPLOADED = 12
PAGES = 3
# Pictures that the model has not learnt from: training begins at seed 20,000,000.
FIRST_SEED = 7_000_000


@dataclass(frozen=True)
class Samples:
    """Where the inputs lie, and what must become of them: `failures` maps an input's name to its code."""

    uploads: tuple[Path, ...]
    served: Path
    folder: Path
    items: int
    failures: dict[str, str]


def draw_samples(folder: Path) -> Samples:
    """Draw them all below `folder`; the same pictures every time."""
    pictures = [_draw(folder / "pictures" / f"shapes-{number:02}", number) for number in range(1, UPLOADED + 1)]
    pdf = folder / "pages.pdf"
    first, *rest = (_scene(100 + page, 640, 480) for page in range(PAGES))
    first.save(pdf, save_all=True, append_images=rest, resolution=144)
    served = folder / "web" / "from-a-url.jpg"
    _save(_scene(200, 800, 600), served)
    shelf = folder / "shelf"
    _save(_scene(300, 480, 480), shelf / "first.png")
    _save(_scene(301, 720, 540), shelf / "below" / "second.jpg")
    cut, text = folder / "cut-off.jpg", folder / "text.jpg"
    whole = pictures[0].read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    text.write_text("This is no picture, whatever its name says.\n")
    return Samples(
        uploads=(folder / "pictures", pdf, cut, text),
        served=served,
        folder=shelf,
        items=UPLOADED + PAGES + 5,
        failures={cut.name: "truncated", text.name: "unsupported_format"},
    )


def _draw(stem: Path, number: int) -> Path:
    width, height = ((640, 480), (480, 640), (800, 600))[number % 3]
    path = stem.with_suffix(".png" if number % 4 == 0 else ".jpg")
    _save(_scene(number, width, height), path)
    return path


def _scene(number: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(draw_scene(FIRST_SEED + number, width, height).image)


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=92)
