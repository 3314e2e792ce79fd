"""Writes synthetic volumes as NIfTI pairs in nnU-Net's layout, with a manifest, over processes, resumable."""

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from synthfm_env.errors import InputError, UserFacingError
from synthfm_env.files import remove_unfinished, write_json, write_text
from synthfm_env.folder_lock import folder_lock, is_left_over
from synthfm_env.printable import shown
from synthfm_env.synthesis.contact_sheets import checked_sheet, contact_sheet, preview_volumes
from synthfm_env.synthesis.generator import GENERATOR_VERSION, SynthFM3D
from synthfm_env.synthesis.recipe import GeneratorRecipe, load_recipe
from synthfm_env.text_files import read_json_table
from synthfm_env.volumes.nifti import save_volume
from synthfm_env.worker_process import follow_parent

IMAGES, LABELS, DATASET, MANIFEST = "imagesTr", "labelsTr", "dataset.json", "manifest.jsonl"
MOST_VOLUMES = 1_000_000
"""Largest number of volumes in one call."""

_writer: "_Writer | None" = None  # of a worker process


@dataclass(frozen=True)
class Exported:
    """The result of a call of ``export_volumes``.

    Attributes:
        out: the data set's folder, None if only a preview was drawn.
        written: number of volumes that this call wrote.
        kept: number of volumes that an earlier call had written.
        preview: the contact sheet, None without one.
    """

    out: Path | None
    written: int
    kept: int
    preview: Path | None


def export_volumes(
    out: Path | None,
    count: int,
    shape: Sequence[int],
    recipe: str = "any",
    seed: int = 0,
    workers: int = 1,
    preview: Path | None = None,
    console: Console | None = None,
) -> Exported:
    """Write ``count`` synthetic volumes, of the seeds ``seed`` to ``seed + count - 1``, and a contact sheet.

    ``out`` gets ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, ``dataset.json`` (nnU-Net version 2) and
    ``manifest.jsonl``, a line for each volume with its seed, modality, spacing and the names of its structures. The
    files do not depend on ``workers``. The same call resumes one that was stopped: volumes that the manifest lists and
    the folder holds are kept.

    Args:
        out: the folder to write to; new, empty, or of an earlier call with the same settings; None for a preview only.
        count: number of volumes.
        shape: (D, H, W) of each; (1, H, W) for 2D images.
        recipe: a name from ``list_recipes()`` or a TOML file.
        seed: of the first volume.
        workers: number of processes.
        preview: where to write a contact sheet of the recipe's styles, a PNG.
        console: where a progress bar goes; none is shown without it.

    Raises:
        InputError: a value that cannot be used, a folder of other settings, or a full disk.
        UserFacingError: a worker died, for example because memory ran out.
    """
    # Refuse what cannot work, before anything is written.
    if not 1 <= count <= MOST_VOLUMES and out is not None:
        raise InputError(f"generate: count={shown(count)}, expected 1 to {MOST_VOLUMES}")
    if workers < 1:
        raise InputError(f"generate: workers={workers}, expected 1 or more")
    if seed < 0:
        raise InputError(f"generate: seed={seed}, expected 0 or more")
    if out is None and preview is None:
        raise InputError("generate: neither a folder nor a preview was given; name one")
    if preview is not None:
        checked_sheet(preview)
    maker = SynthFM3D(shape, recipe)  # refuses a bad shape or recipe before anything is written
    # Draw the volumes that the folder lacks.
    written = kept = 0
    if out is not None:
        settings = _settings(maker, seed)
        _make_folders(out)
        with folder_lock(out):
            done = _resume(out, settings)
            todo = [s for s in range(seed, seed + count) if s not in done]
            kept = count - len(todo)
            _write_dataset(out, maker.recipe, settings, len(done))
            written = _write_all(out, maker, todo, workers, console)
            _write_dataset(out, maker.recipe, settings, len(done) + written)
    if preview is not None:
        contact_sheet(preview_volumes(maker.shape, maker.recipe, seed), preview)
    return Exported(out, written, kept, preview)


class _Writer:
    """Makes one volume and writes its two files."""

    def __init__(self, out: Path, maker: SynthFM3D) -> None:
        self.out, self.maker = out, maker

    def __call__(self, seed: int) -> dict[str, Any]:
        volume = self.maker.sample(seed)
        image, label = _paths(self.out, volume.case_id)
        save_volume(volume, image, label)
        return {
            "seed": seed,
            "case_id": volume.case_id,
            "modality": volume.modality,
            "spacing": list(volume.spacing),
            "structures": {str(k): name for k, name in volume.structures.items()},
        }


def _paths(out: Path, case_id: str) -> tuple[Path, Path]:
    return out / IMAGES / f"{case_id}_0000.nii.gz", out / LABELS / f"{case_id}.nii.gz"


def _settings(maker: SynthFM3D, seed: int) -> dict[str, Any]:
    """Return what the volumes of a folder follow from, with their seeds."""
    return {
        "name": "SynthFM-3D",
        "version": GENERATOR_VERSION,
        "first_seed": seed,
        "shape": list(maker.shape),
        "recipe": maker.recipe.model_dump(mode="json"),
    }


def _make_folders(out: Path) -> None:
    """Make the folders of a data set; raise InputError if the place holds other files."""
    try:
        if (
            out.is_dir()
            and not (out / DATASET).is_file()
            and any(not is_left_over(file.name) for file in out.iterdir())
        ):
            raise InputError(f"generate: {out} holds other files; name a new folder")
        for name in (IMAGES, LABELS):
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"generate: {out} cannot be written to ({error.strerror}); name another folder") from error


def _resume(out: Path, settings: dict[str, Any]) -> set[int]:
    """Remove unfinished files of a killed call, and return the seeds whose volumes are complete."""
    try:
        for folder in (out, out / IMAGES, out / LABELS):
            remove_unfinished(folder)
        if (out / DATASET).is_file():
            _check_same(out, settings)
        rows, changed = _manifest(out, settings["recipe"]["name"])
        kept = [row for row in rows if all(path.is_file() for path in _paths(out, row["case_id"]))]
        if changed or len(kept) < len(rows):
            write_text(out / MANIFEST, "".join(json.dumps(row) + "\n" for row in kept))
    except OSError as error:
        raise InputError(f"generate: {out} cannot be written to ({error.strerror}); name another folder") from error
    return {row["seed"] for row in kept}


def _manifest(out: Path, name: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the valid rows of the manifest, and whether it has other lines, whose volumes are made again.

    Args:
        out: the data set's folder.
        name: of the recipe.
    """
    path = out / MANIFEST
    if not path.exists():
        return [], False
    if not path.is_file() or path.is_symlink():
        raise InputError(f"generate: {path} is no regular file; name a new folder")
    rows: dict[int, dict[str, Any]] = {}
    lines = path.read_bytes().split(b"\n")
    for line in lines[:-1]:
        try:
            row = json.loads(line)
            if isinstance(row["seed"], int) and row["case_id"] == f"synthfm3d-{name}-{row['seed']}":
                rows[row["seed"]] = row
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return list(rows.values()), len(rows) < len(lines) - 1 or bool(lines[-1])


def _check_same(out: Path, settings: dict[str, Any]) -> None:
    """Raise InputError if the folder was made with other settings."""
    before = read_json_table(out / DATASET, f"generate: {out / DATASET}").get("generator", {})
    if not isinstance(before, dict) or not isinstance(before.get("recipe", {}), dict):
        before = {}
    for key, value in _flat(settings).items():
        was = _flat(before).get(key)
        if was != value:
            raise InputError(
                f"generate: {out} was made with {key.replace('_', ' ')} {shown(was)}, not {value!r}; "
                "name a new folder, or give the same settings to go on with this one"
            )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with those of the recipe at the top level, as "recipe KEY"."""
    recipe = {f"recipe {key}": value for key, value in settings.get("recipe", {}).items()}
    return {key: value for key, value in settings.items() if key != "recipe"} | recipe


def _write_dataset(out: Path, recipe: GeneratorRecipe, settings: dict[str, Any], count: int) -> None:
    """Write nnU-Net's ``dataset.json``."""
    styles = [style for style, weight in recipe.styles.items() if weight]
    labels = {"background": 0} | {f"structure {i}": i for i in range(1, recipe.targets[1] + 1)}
    try:
        write_json(
            out / DATASET,
            {
                "channel_names": {"0": styles[0] if len(styles) == 1 else "any"},
                "labels": labels,
                "numTraining": count,
                "file_ending": ".nii.gz",
                "description": "label ids differ in meaning from case to case: see manifest.jsonl",
                "generator": settings,
            },
        )
    except OSError as error:
        raise InputError(f"generate: {out / DATASET} cannot be written ({error.strerror})") from error


def _write_all(out: Path, maker: SynthFM3D, seeds: list[int], workers: int, console: Console | None) -> int:
    """Write the volumes of these seeds, and add each to the manifest after both its files. Return their number."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("volumes, left:"), TimeRemainingColumn())
    written = 0
    try:
        with (
            Progress(*columns, console=console, transient=True, disable=console is None) as bar,
            (out / MANIFEST).open("a", encoding="utf-8") as manifest,
        ):
            task = bar.add_task("", total=len(seeds))
            for row in _write_volumes(out, maker, seeds, min(workers, len(seeds))):
                manifest.write(json.dumps(row) + "\n")
                manifest.flush()
                written += 1
                bar.advance(task)
    except (InputError, OSError) as error:
        what = error if isinstance(error, InputError) else f"{out / MANIFEST} ({error.strerror})"
        raise InputError(
            f"generate: stopped after {written} of {len(seeds)} volumes: {what}; "
            "make room and run the same command again, it goes on from there"
        ) from error
    return written


def _write_volumes(out: Path, maker: SynthFM3D, seeds: list[int], workers: int) -> Iterator[dict[str, Any]]:
    """Write volumes here or in worker processes, and yield the manifest's row of each."""
    if workers <= 1:
        yield from map(_Writer(out, maker), seeds)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process that has run torch may hang
    pool = ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=(out, maker.shape, maker.recipe.model_dump())
    )
    try:
        yield from pool.map(_write_one, seeds, chunksize=max(1, min(8, len(seeds) // (4 * workers))))
    except BrokenProcessPool as error:
        raise UserFacingError("a worker process died, possibly out of memory; try --workers 1") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(out: Path, shape: tuple[int, int, int], recipe: dict[str, Any]) -> None:
    global _writer
    follow_parent()
    _writer = _Writer(out, SynthFM3D(shape, load_recipe(recipe)))


def _write_one(seed: int) -> dict[str, Any]:
    assert _writer is not None, "the worker was started"
    return _writer(seed)
