"""create_pipeline: the instance segmentation pipeline without a queue, called as PaddleX's is called."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from pydantic import ValidationError

from maskmill.shared.errors import InputError, InvalidRequest, RequestError
from maskmill.shared.jobs.records import ClassName, MaskFormat, Options
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device, parse_devices
from maskmill.worker.images.image import Frame
from maskmill.worker.models.library.default_device import default_device
from maskmill.worker.predict.paddlex_config import NAME, configure, read_config
from maskmill.worker.predict.predictor import Input, Predictor
from maskmill.worker.predict.results import Result, ResultMaker, failed_result, with_input
from maskmill.worker.sources.artifact_names import Names, seed_name

# By these PaddleX chooses an engine; here it is onnxruntime.
ENGINE = frozenset({"use_hpip", "hpi_config", "engine", "engine_config", "pp_option"})

Given = str | Path | Frame
OnError = Literal["result", "raise"]

BETWEEN = "between 0 and 1, both excluded"
EXPECTED = {
    "threshold": f"a number {BETWEEN}",
    "classes": "a list of labels and numbers of classes, not an empty one",
    "thresholds": f"labels or numbers of classes, and for each a number {BETWEEN}",
    "max_instances": "a whole number from 1 on",
}

logger = logging.getLogger(__name__)


def create_pipeline(  # noqa: PLR0913 - each is a word of the caller's
    pipeline: str | Path | None = NAME,
    *,
    config: Mapping[str, Any] | str | Path | None = None,
    device: str | None = None,
    model: str | Path | None = None,
    classes: Sequence[ClassName] | None = None,
    thresholds: Mapping[Any, float] | None = None,
    max_instances: int | None = None,
    mask_format: MaskFormat = "rle",
    on_error: OnError = "result",
    **engine: Any,
) -> InstanceSegmentation:
    """A pipeline with its model loaded on every device that `device` lists (none: gpu:0 if it works, else the CPU).

    One device is used by this process, several by a process each; the results are the same.

    `pipeline` is "instance_segmentation" or a YAML file in PaddleX's form, `config` such a file or what it holds;
    `model`, a name or path, goes before the configuration's. An input that fails becomes a result with an `error`, or
    with `on_error="raise"` an InputError. Raises InvalidRequest, UnknownClass, ModelInvalid and DeviceUnavailable.

    Of what is found, `classes` keeps these only, each given by its label or its number; `thresholds` says the lowest
    score of some, where the others have the one of `predict`; `max_instances` keeps the best of each picture.

    What chooses an `engine` in PaddleX (`use_hpip`, `hpi_config`, ...) is passed over, with a warning where it asks
    for something.
    """
    _pass_over(engine)
    module = read_config(pipeline, config)
    _check_choice("mask_format", mask_format, ("rle", "polygon", "dense"))
    _check_choice("on_error", on_error, ("result", "raise"))
    options = _options(
        Options(mask_format=mask_format),
        threshold=module.threshold,
        classes=classes,
        thresholds=thresholds,
        max_instances=max_instances,
    )
    settings = configure(Settings.from_env(os.environ), module, model)
    devices = parse_devices(device or _default(settings))
    predictor = Predictor(settings, settings.models[0], *devices)
    try:
        predictor.check_options(options)
    except RequestError:
        predictor.close()
        raise
    return InstanceSegmentation(predictor, devices, options, on_error)


class InstanceSegmentation:
    """A loaded pipeline; its results are for one thread at a time. It ends with `close`, `with`, or the process."""

    def __init__(self, predictor: Predictor, devices: tuple[Device, ...], options: Options, on_error: OnError) -> None:
        self._predictor = predictor
        self._devices = devices
        self._options = options
        self._on_error = on_error
        self._close = weakref.finalize(self, predictor.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its threads and processes; what is under way is dropped."""
        self._close()

    def predict(  # noqa: PLR0913 - each is a word of the caller's
        self,
        input: Given | Sequence[Given],  # noqa: A002 - PaddleX's name
        threshold: float | None = None,
        *,
        device: str | None = None,
        classes: Sequence[ClassName] | None = None,
        thresholds: Mapping[Any, float] | None = None,
        max_instances: int | None = None,
        pictures: bool = True,
    ) -> Iterator[Result]:
        """The results in the inputs' order, computed as they are asked for and some ahead.

        An input is an array (uint8 BGR, as OpenCV reads it), a file, a folder with all below it, or an http(s) URL;
        of a PDF and a TIFF each page is a result. Without `threshold` the configuration's counts, else 0.5, and for
        PaddleX's own models their `draw_threshold`. `classes`, `thresholds` and `max_instances` go before those that
        the pipeline was made with.
        `pictures=False` saves the drawing where only boxes and masks are wanted. Raises InvalidRequest for what is
        no input or no threshold, or for a `device` other than the pipeline's own, and UnknownClass, at once.
        """
        if device is not None and parse_devices(device) != self._devices:
            own = ",".join(map(str, self._devices))
            raise InvalidRequest(f"the pipeline is on {own}; for {device} make one: create_pipeline(device={device!r})")
        options = _options(
            self._options, threshold=threshold, classes=classes, thresholds=thresholds, max_instances=max_instances
        )
        self._predictor.check_options(options)
        return self._results(_inputs(input), options, ResultMaker(options.mask_format, pictures))

    def _results(self, inputs: Sequence[Input], options: Options, maker: ResultMaker) -> Iterator[Result]:
        names = Names()
        for item, done in self._predictor.run(inputs, options, maker.make):
            if done.failure and self._on_error == "raise":
                raise InputError(with_input(item.input_path or item.name, done.failure.reason)) from done.error
            result: Result = failed_result(item, done.failure) if done.failure else done.value
            result.name = names.give(seed_name(item.input_path or item.name, item.page_index))
            yield result


def _inputs(given: Given | Sequence[Given]) -> list[Input]:
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    return [_checked(one) for one in listed]


def _checked(one: Any) -> Input:
    if isinstance(one, np.ndarray):
        return one
    if isinstance(one, (str, Path)) and str(one) and "\0" not in str(one):
        return str(one)
    found = repr(one) if isinstance(one, str) else type(one).__name__
    raise InvalidRequest(f"an input is an array, a path, a URL or a list of these; got {found}")


def _options(usual: Options, **asked: Any) -> Options:
    """The usual options with what is asked for; raises InvalidRequest that says what was expected."""
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        return Options.model_validate(dict(usual) | given)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise InvalidRequest(f"{name}: expected {EXPECTED[name]}; got {given[name]!r:.200}") from None


def _pass_over(engine: Mapping[str, Any]) -> None:
    for name, value in engine.items():
        if name not in ENGINE:
            raise TypeError(f"create_pipeline() got an unexpected keyword argument {name!r}")
        if value:
            logger.warning("%s=%r is passed over: the engine here is onnxruntime", name, value)


def _check_choice(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise InvalidRequest(f"{name}: expected one of {', '.join(known)}; got {given!r}")


def _default(settings: Settings) -> str:
    device, why = default_device(settings)
    if why:
        logger.warning("using %s: %s", device, why)
    return device
