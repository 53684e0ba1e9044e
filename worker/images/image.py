"""Image and Frame: decoded pixels, as they flow here and as programs that use OpenCV hold them."""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""Decoded pixels, uint8 [height,width,3] RGB, EXIF orientation applied."""

Frame = NDArray[np.uint8]
"""A picture as OpenCV holds it: uint8 [H,W,3] BGR, [H,W,4] BGRA or [H,W] grey."""
