"""Meta's SAM 2 and 2.1: the package's configurations by name, and where their checkpoints come from."""

from pathlib import Path

from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2_video_predictor
from sam2.sam2_video_predictor import SAM2VideoPredictor

from synthfm_env.errors import InputError
from synthfm_env.segmenters.placed_weights import weights_folder

# "sam2.1-hiera-tiny" -> ("configs/sam2.1/sam2.1_hiera_t.yaml", "sam2.1_hiera_tiny.pt"), for all eight.
OFFICIAL = {model_id.removeprefix("facebook/"): names for model_id, names in HF_MODEL_ID_TO_FILENAMES.items()}


def build_official(name: str, image_size: int = 1024) -> SAM2VideoPredictor:
    """Return an official model without weights (random ones), in evaluation mode, on the CPU.

    Post-processing stays off (hole filling, falling back to other masks): it differs between machines with and
    without the package's CUDA kernel. ``add_all_frames_to_correct_as_cond`` is on, as for every model here.
    """
    config, _ = OFFICIAL[name]
    model: SAM2VideoPredictor = build_sam2_video_predictor(
        config,
        device="cpu",
        apply_postprocessing=False,
        hydra_overrides_extra=[
            "++model.add_all_frames_to_correct_as_cond=true",
            f"++model.image_size={image_size}",
        ],
    )
    return model


def official_checkpoint(name: str) -> Path:
    """Return the checkpoint of an official model: a placed file, else through the hub (extra ``hub``).

    Raises:
        InputError: there is no file, and the hub cannot be reached or its client is not installed; the message
            names the file to place and where.
    """
    _, filename = OFFICIAL[name]
    placed = weights_folder() / filename
    if placed.is_file():
        return placed
    ask = f"place {filename} at {placed}, or give the path of a checkpoint instead of its name"
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise InputError(
            f"the weights of {name!r} are not here: install the hub's client "
            f'(pip install "synthfm_env[hub]"), or {ask}'
        ) from None
    try:
        return Path(hf_hub_download(repo_id=f"facebook/{name}", filename=filename))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the weights of {name!r} cannot be fetched ({reason}): {ask}") from None
