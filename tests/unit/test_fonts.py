"""The fonts of the labels are opened when a label is first drawn, once, whoever asks."""

from __future__ import annotations

import subprocess
import sys

# Importing what draws opens nothing; then many threads at once ask for words of several fonts. HarfBuzz maps its
# files into memory by itself, so what it has opened is read from the process's map.
OPEN = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

opened = []
sys.addaudithook(lambda event, of: opened.append(str(of[0])) if event in ("open", "os.listdir", "os.scandir") else None)

def fonts_in_memory():
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if line.endswith((".ttf", ".ttc"))}

import maskmill.worker.rendering.artifacts
import maskmill.worker.rendering.draw
from maskmill.worker.rendering.text import line

print(len(fonts_in_memory()), [path for path in opened if "/manimgx_fonts" in path and "dist-info" not in path])

sys.setswitchinterval(1e-6)
words = ["cat", "קוט", "กา", "猫"] * 8
together = Barrier(len(words))

def drawn(word):
    together.wait()
    return line(word)

with ThreadPoolExecutor(len(words)) as pool:
    lines = list(pool.map(drawn, words))
counts = [len({id(glyph.font) for of_word in lines[first::4] for glyph in of_word.glyphs}) for first in range(4)]
print(len(fonts_in_memory()) > 10, counts)
"""


def test_importing_costs_no_font_and_threads_that_ask_at_once_get_the_same_ones() -> None:
    done = subprocess.run([sys.executable, "-c", OPEN], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["0 []", "True [1, 1, 1, 1]"]
