"""The configuration of a pipeline in PaddleX's form: a YAML file, or the mapping that it holds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskmill.shared.errors import InvalidRequest
from maskmill.shared.jobs.records import UnitFloat
from maskmill.shared.settings import Settings

NAME: Literal["instance_segmentation"] = "instance_segmentation"
NAME_ONE = "name one as `model`, as the configuration's model_dir or in MASKMILL_MODELS"

logger = logging.getLogger(__name__)


class ModuleConfig(BaseModel):
    """SubModules.InstanceSegmentation; keys that mean nothing here are passed over."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_name: str | None = None
    model_dir: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    threshold: UnitFloat | None = None

    @property
    def model(self) -> str | None:
        """Where the model is, or its name."""
        return self.model_dir or self.model_name


class _SubModules(BaseModel):
    instance_segmentation: ModuleConfig = Field(alias="InstanceSegmentation")


class _Pipeline(BaseModel):
    pipeline_name: Literal["instance_segmentation"] = NAME
    sub_modules: _SubModules = Field(alias="SubModules")


def read_config(pipeline: str | Path | None, config: Mapping[str, Any] | str | Path | None = None) -> ModuleConfig:
    """What `config` says, a mapping or a YAML file; without one `pipeline` is the pipeline's name or a YAML file.

    Raises InvalidRequest that names the file and the key at fault.
    """
    if config is None:
        if pipeline == NAME:
            return ModuleConfig()
        config = str(pipeline)
        if Path(config).suffix.lower() not in (".yaml", ".yml"):
            raise InvalidRequest(f"pipeline {config!r}: expected {NAME!r} or the path of a YAML file")
    if isinstance(config, Mapping):
        return _parse(config, "config")
    return _parse(_load(Path(config)), str(config))


def configure(settings: Settings, module: ModuleConfig, model: str | Path | None = None) -> Settings:
    """The settings with what a configuration says of model and batch size; `model` goes before it.

    Where neither they nor the environment name a model, a warning says which one runs.
    """
    changes: dict[str, Any] = {}
    named = model or module.model
    if named is not None:
        changes["models"] = (str(named),)
    elif "models" not in settings.model_fields_set:
        logger.warning("no model is named: %s runs, which finds drawn shapes only; %s", settings.models[0], NAME_ONE)
    if module.batch_size is not None:
        changes["batch_size"] = module.batch_size
    return settings.model_copy(update=changes)


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path}: not YAML: {error}") from None


def _parse(content: Any, where: str) -> ModuleConfig:
    try:
        found = _Pipeline.model_validate(content)
    except ValidationError as error:
        raise InvalidRequest(f"{where}: {'; '.join(map(_problem_of, error.errors()))}") from None
    return found.sub_modules.instance_segmentation


def _problem_of(fault: Any) -> str:
    place = ".".join(map(str, fault["loc"])) or "the whole"
    match fault["type"]:
        case "missing":
            return f"{place} is missing"
        case "value_error":
            return f"{place} {fault['ctx']['error']}"
        case "model_type":
            wanted = "Input should be a mapping"
        case _:
            wanted = fault["msg"]
    return f"{place}: {wanted}, got {fault['input']!r}"
