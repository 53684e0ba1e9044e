"""The fonts of the labels are opened when a label is first drawn, once, whoever asks."""

from __future__ import annotations

import subprocess
import sys

# Importing what draws opens nothing; then many threads at once ask for words of several fonts. HarfBuzz maps its
# files into memory by itself, so what it holds is read from the process's map; the folders are listed to open them.
OPEN = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

listed = []

def note(event, of):
    if event in ("os.listdir", "os.scandir"):
        listed.append(Path(str(of[0])).name)

sys.addaudithook(note)

def times_opened():
    return listed.count("manimgx_fonts"), listed.count("manimgx_fonts_cjk")

def fonts_in_memory():
    mapped = Path("/proc/self/maps").read_text().split()
    return {name for name in mapped if name.endswith((".ttf", ".ttc"))}

import maskmill.worker.rendering.artifacts
import maskmill.worker.rendering.draw
from maskmill.worker.rendering.text import line

listed.clear()
print(len(fonts_in_memory()))

sys.setswitchinterval(1e-6)
words = ["cat", "קוט", "กา", "猫"] * 8
together = Barrier(len(words))

def drawn(word):
    together.wait()
    return line(word)

with ThreadPoolExecutor(len(words)) as pool:
    lines = list(pool.map(drawn, words))
print(len(fonts_in_memory()) > 10, times_opened())
print([len({id(glyph.font) for of_word in lines[first::4] for glyph in of_word.glyphs}) for first in range(4)])
"""


def test_importing_opens_no_font_and_threads_that_ask_at_once_open_each_once() -> None:
    done = subprocess.run([sys.executable, "-c", OPEN], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["0", "True (1, 1)", "[1, 1, 1, 1]"]
