"""Writes a Codabench challenge: a bundle whose ingestion program is ``synthfm bench`` with secret seeds."""

import json
import zipfile
from importlib import metadata
from pathlib import Path

from synthfm_bench.suite import load_suite
from synthfm_env.errors import InputError
from synthfm_env.files import atomic_write

_INGESTION = '''"""Play the submission, a bridge's command, on the suite with the secret seed."""

import json
import pathlib
import subprocess
import sys

_, hidden, output, submission = sys.argv
secret = json.loads((pathlib.Path(hidden) / "secret.json").read_text())
command = (pathlib.Path(submission) / "command.txt").read_text().strip()
finished = subprocess.run(
    [
        "synthfm", "bench", secret["suite"], "--seed", str(secret["seed"]),
        "--segmenter", f"submission=bridge:{command}", "--out", f"{output}/run",
    ],
    cwd=submission,
)
# Episodes that failed score 0 and give status 1. Only a run without a board is no result.
if not (pathlib.Path(output) / "run" / "leaderboard.csv").is_file():
    sys.exit(f"synthfm bench ended with status {finished.returncode} and wrote no board")
'''
_SCORING = '''"""Write the scores of the run: means over groups of data and oracle clickers.

A blind clicker measures its own strategy as well, so its rows do not count.
"""

import csv
import json
import pathlib
import statistics
import sys

_, given, output = sys.argv
with (pathlib.Path(given) / "res" / "run" / "leaderboard.csv").open() as file:
    rows = [row for row in csv.DictReader(file) if row["segmenter"] == "submission"]
rows = [row for row in rows if row["clicker_kind"] == "oracle"]
scores = {key: statistics.mean(float(row[key]) for row in rows) for key in ("dice@1", "dice@5", "nauc")}
(pathlib.Path(output) / "scores.json").write_text(json.dumps(scores))
'''
_SCORED_CLICKS = 5  # a budget of fewer clicks has no dice@5
_TERMS = """Submissions run without a network.

A submission must not read the hidden input data or other processes: whoever knows the seed can draw the truth.
"""
_COMPETITION = """version: 2
title: {title}
description: Promptable segmentation on synthetic volumes that are drawn from a secret seed
docker_image: {image}
terms: terms.md
pages:
  - title: Overview
    file: overview.md
tasks:
  - index: 0
    name: {suite}
    description: {description}
    input_data: hidden
    ingestion_program: ingestion_program
    scoring_program: scoring_program
    is_public: false
phases:
  - index: 0
    name: Evaluation
    start: 2027-01-01
    tasks: [0]
leaderboards:
  - title: Results
    key: main
    columns:
      - {{title: Dice@5, key: dice@5, index: 0, sorting: desc}}
      - {{title: Dice@1, key: dice@1, index: 1, sorting: desc}}
      - {{title: nAUC, key: nauc, index: 2, sorting: desc}}
"""


def write_bundle(path: Path, suite: str, seed: int, image: str) -> None:
    """Write a bundle that Codabench imports as a competition.

    A submission is a folder with ``command.txt``, the command of a ``bridge:`` segmenter. The seed is in the hidden
    input data alone: without it the volumes cannot be drawn, so nobody has them beforehand. It is not hidden from the
    submission itself, which runs in the ingestion program's container; the terms forbid to read it.

    Args:
        path: of the zip file.
        suite: a synthetic suite of the package.
        seed: secret; not the suite's own.
        image: the Docker image in which synthfm_env is installed.

    Raises:
        InputError: an unknown suite, a file, a suite that plays data anyone can have or fewer than five clicks, or its
            public seed.
    """
    # Only suites that the image has.
    if suite.endswith(".toml"):
        raise InputError(
            f"suite {suite}: the image has no such file; give the name of a synthetic suite of the package"
        )
    # Only volumes that nobody can have beforehand.
    played = load_suite(suite)
    open_data = [group.name for group in played.data if group.kind != "synthetic"]
    if open_data:
        raise InputError(f"suite {suite}: {', '.join(open_data)} is public data; choose a synthetic suite")
    if played.clicks < _SCORED_CLICKS:
        raise InputError(
            f"suite {suite}: it plays {played.clicks} clicks, and the challenge scores Dice after {_SCORED_CLICKS}"
        )
    if seed == played.seed:
        raise InputError(f"seed {seed} is the suite's own and public; choose another")
    # Files by their path in the archive.
    described = {
        "title": f"synthfm {suite}",
        "image": image,
        "suite": suite,
        "description": json.dumps(played.description),
    }
    version = metadata.version("synthfm_env")
    command = "python ingestion.py /app/input_data /app/output /app/ingested_program"
    files = {
        "competition.yaml": _COMPETITION.format(**described),
        "overview.md": f"Segment what the clicks show. Played by synthfm_env {version}: `{suite}`, secret seed.\n",
        "terms.md": _TERMS,
        "hidden/secret.json": json.dumps({"suite": suite, "seed": seed}),
        "ingestion_program/ingestion.py": _INGESTION,
        "ingestion_program/metadata.yaml": f"command: {command}\n",
        "scoring_program/scoring.py": _SCORING,
        "scoring_program/metadata.yaml": "command: python scoring.py /app/input /app/output\n",
    }
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), text)
