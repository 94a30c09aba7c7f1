"""Build hook: bundles the image viewer of `infarct serve` into the wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SCRIPT = Path("src/infarct/web/bundle.py")


class BundleViewer(BuildHookInterface[Any]):
    """Runs `infarct/web/bundle.py` before a wheel or an editable installation is made."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Bundle NiiVue unless it is there; without npm, build a package without the viewer."""
        del build_data
        if self.target_name != "wheel":
            return
        spec = importlib.util.spec_from_file_location("bundle", Path(self.root) / SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        if version == "editable" and script.TARGET.is_file():
            return
        try:
            script.bundle()
        except script.BundleError as error:
            self.app.display_warning(
                f"infarct is built without the image viewer of `infarct serve`: {error}"
            )
