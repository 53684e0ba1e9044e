"""Keeps off the process's output what Pillow and libtiff say of a picture on their own.

Such a line has no time, job or file, and says of an ordinary bad input that it is an error. What is wrong with a
picture is told by the reason of the InputError that its reading ends with.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import warnings

from PIL import _imaging

LOGGERS = ("PIL.ImageFile", "PIL.PngImagePlugin", "PIL.TiffImagePlugin")
LIBTIFF_HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")


class _Silence:
    """While a thread reads with it, Pillow's warnings are off for the process and its log records for the thread.

    warnings.catch_warnings alone is for one thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: list[int] = []
        self._saved = warnings.catch_warnings()
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self._lets_through)

    def __enter__(self) -> None:
        with self._lock:
            if not self._readers:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._readers.append(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers.remove(threading.get_ident())
            if not self._readers:
                self._saved.__exit__(None, None, None)

    def _lets_through(self, record: logging.LogRecord) -> bool:
        return record.thread not in self._readers


def _silence_libtiff() -> None:
    """Take libtiff's handlers away, which print to standard error; Pillow has no call for it.

    The library that Pillow is linked to is found through Pillow's own; where it is a part of it there is no handle.
    """
    pillow = ctypes.CDLL(_imaging.__file__)
    for name in LIBTIFF_HANDLERS:
        if hasattr(pillow, name):
            set_handler = getattr(pillow, name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


silence = _Silence()
_silence_libtiff()
