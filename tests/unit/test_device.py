"""Devices are written as the seed writes them, and a wrong one says what is right."""

from __future__ import annotations

import pytest

from maskmill.shared.errors import InvalidRequest
from maskmill.worker.device import Device, parse_devices


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu", [Device("cpu")]),
        ("gpu", [Device("gpu", 0)]),
        ("gpu:1", [Device("gpu", 1)]),
        ("gpu:0,1", [Device("gpu", 0), Device("gpu", 1)]),
        ("gpu:0, gpu:1", [Device("gpu", 0), Device("gpu", 1)]),
        ("GPU:0,0", [Device("gpu", 0)]),
        ("cpu,gpu:2,3", [Device("cpu"), Device("gpu", 2), Device("gpu", 3)]),
        ("npu:0,dcu:1", [Device("npu", 0), Device("dcu", 1)]),
        ("xpu:0,1,mlu:2,gcu", [Device("xpu", 0), Device("xpu", 1), Device("mlu", 2), Device("gcu", 0)]),
        ("cpu,cpu", [Device("cpu"), Device("cpu")]),
        ("sim:20,20", [Device("sim", 20), Device("sim", 20)]),
    ],
)
def test_a_list_of_devices_is_read(text: str, expected: list[Device]) -> None:
    assert list(parse_devices(text)) == expected


@pytest.mark.parametrize("text", ["", "cpu:0", "gpu:", "gpu:-1", "gpu:x", "tpu:0", "0", "cpu,1", "sim", "gpu:0,,1"])
def test_what_is_no_device_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(InvalidRequest, match='use "cpu", "gpu:0"'):
        parse_devices(text)


def test_a_device_is_written_as_it_is_read() -> None:
    for text in ("cpu", "gpu:3", "sim:20"):
        assert str(parse_devices(text)[0]) == text


def test_a_process_started_for_one_gpu_sees_it_as_number_0_and_calls_it_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    device = Device("gpu", 3)
    assert device.environment()["CUDA_VISIBLE_DEVICES"] == "3"
    assert device.alone() == Device("gpu", 0)
    assert str(device.alone()) == "gpu:3"


@pytest.mark.parametrize(("index", "name"), [(0, "2"), (1, "GPU-5f3e"), (2, "-1")])
def test_devices_count_those_that_are_visible_already(index: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5f3e")
    assert Device("gpu", index).environment()["CUDA_VISIBLE_DEVICES"] == name


def test_cpu_and_sim_hide_no_device_and_keep_their_number() -> None:
    for device in (Device("cpu"), Device("sim", 20)):
        assert not any("VISIBLE" in name for name in device.environment())
        assert device.alone() == device
