"""``synthfm record``: write episodes as offline data for reinforcement learning."""

from pathlib import Path
from typing import Annotated

import typer

from synthfm_bench.cli.messages import on_interrupt, one_thread_each


def record(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="a name from `synthfm list suites`, or a TOML file")],
    minari: Annotated[
        str, typer.Option(metavar="NAME", help="namespace of the Minari data sets, for example synthfm/quick")
    ],
    segmenter: Annotated[
        str | None, typer.Option(metavar="NAME", help="that answers; the suite's first one by default")
    ] = None,
    clicker: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="expert to record, again for more; the suite's by default"),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", help="where the suite's data sets lie")] = None,
    cases: Annotated[int | None, typer.Option(min=1, metavar="N", help="of each group at most so many")] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="another seed draws other episodes")] = None,
) -> None:
    """Write Minari data sets of experts and of random clicks: prompts, masks as packed bits, rewards, seeds.

    One data set for each group of the suite and each clicker, `NAME/GROUP-CLICKER-v0`, in Minari's folder
    (`MINARI_DATASETS_PATH`). `minari.load_dataset(...).recover_environment()` rebuilds the environment, and with an
    episode's seed its image. Needs the extra `minari`.
    """
    one_thread_each()
    from synthfm_bench.execution.minari_recorder import record_suite
    from synthfm_bench.suite import load_suite, with_choices

    chosen = with_choices(
        load_suite(suite),
        segmenters=(segmenter,) if segmenter else (),
        clickers=tuple(clicker or ()),
        seed=seed,
        root=data,
        cases=cases,
    )
    with on_interrupt("stopped: the data sets that are complete are kept"):
        for name, episodes in record_suite(chosen, minari):
            typer.echo(f"{name}: {episodes} episodes")
