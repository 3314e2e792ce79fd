"""Puts the page of ``synthfm play`` into the wheel, built by npm if it was not built before."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):
    """Builds ``benchmarks/synthfm_bench/web`` with Vite; an editable install leaves that to ``make play``."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page if it is missing. Without npm the wheel is made without it, and `synthfm play` says so."""
        root = Path(self.root) / "benchmarks" / "synthfm_bench"
        page = root / "play" / "page"
        if version == "editable" or self.target_name != "wheel":
            return
        if not (page / "index.html").is_file():
            npm = shutil.which("npm")
            if npm is None:
                self.app.display_warning(
                    "npm is missing: this wheel has no page for `synthfm play` (Node 20.19 builds it)"
                )
                return
            for command in ("install --no-save", "run build"):
                subprocess.run([npm, *command.split()], cwd=root / "web", check=True)
        build_data["artifacts"].append("benchmarks/synthfm_bench/play/page/**")
