"""``synthfm serve``: any segmenter in 3D Slicer and napari."""

from typing import Annotated

import typer

from synthfm_bench.cli.messages import import_from_here
from synthfm_bench.cli.options import NANO


def serve(
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="from `synthfm list models`, or a weights file")
    ] = NANO,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one")] = 1527,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="another than this machine's own needs a token")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(envvar="SYNTHFM_TOKEN", metavar="TEXT", help="which clients must send, as their API key"),
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, metavar="N", help="clients at a time")] = 4,
    limit_mib: Annotated[int, typer.Option(min=1, metavar="MIB", help="for one image, 4 bytes a voxel")] = 1024,
) -> None:
    """Serve a segmenter to 3D Slicer and napari, by nnInteractive's protocol.

    In Slicer's extension SlicerNNInteractive or napari-nninteractive choose the mode Remote and enter the printed
    address. Tools that the segmenter does not take are greyed out there. Stop it by Ctrl-C.
    """
    import_from_here()
    from synthfm_bench.serve.listen import check_extra, check_token, listen, run, url_of

    check_extra("synthfm serve")
    check_token(host, token)
    bound = listen(host, port)
    from synthfm_bench.serve.app import Limits, make_app
    from synthfm_env.segmenters import make_segmenter

    app = make_app(make_segmenter(segmenter), limits=Limits(sessions=sessions, mib=limit_mib), token=token)
    typer.echo(f"{segmenter}: {url_of(bound)}")
    typer.echo("next: in 3D Slicer (SlicerNNInteractive) or napari (napari-nninteractive) choose Remote, enter that")
    run(app, bound)
