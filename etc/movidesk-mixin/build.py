"""Builds what an admin loads, from the jsonnet files beside this one: `make mixin`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rjsonnet

HERE = Path(__file__).parent
HEAD = "# Generated from alerts/alerts.libsonnet and config.libsonnet by make mixin.\n"


def evaluated(expression: str, settings: dict[str, object] | None = None) -> Any:  # what the expression is
    """An expression about `mixin`, as JSON; settings: values for _config."""
    mixin = f"local mixin = (import '{(HERE / 'mixin.libsonnet').as_posix()}') + {{ _config+:: {json.dumps(settings or {})} }};"
    return json.loads(rjsonnet.evaluate_snippet("mixin", f"{mixin} {expression}"))


def config() -> dict[str, Any]:
    """The settings, with their defaults."""
    found: dict[str, Any] = evaluated("mixin._config")
    return found


def alerts() -> list[dict[str, Any]]:
    """The alert rules."""
    rules: list[dict[str, Any]] = evaluated("mixin.prometheusAlerts.groups[0].rules")
    return rules


def built(settings: dict[str, object] | None = None) -> dict[Path, str]:
    """The generated files, and what is to be in each."""
    yaml = evaluated("std.manifestYamlDoc(mixin.prometheusAlerts, indent_array_in_object=true, quote_keys=false)", settings)
    files = {HERE / "prometheus_rules_out" / "prometheus_alerts.yaml": f"{HEAD}{yaml}\n"}
    for name, dashboard in evaluated("mixin.grafanaDashboards", settings).items():
        files[HERE / "dashboards_out" / name] = json.dumps(dashboard, indent=2) + "\n"
    return files


if __name__ == "__main__":
    for path, text in built().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
