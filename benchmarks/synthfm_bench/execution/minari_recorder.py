"""Episodes of a suite as Minari data sets."""

import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from synthfm_agents import Clicker
from synthfm_bench.plan import derive_seed
from synthfm_bench.players import build_clicker, build_segmenter
from synthfm_bench.suite import Choice, Data, DatasetData, Suite, SyntheticData
from synthfm_env.envs.wrappers import PackedMask
from synthfm_env.errors import InputError

if TYPE_CHECKING:
    from minari.data_collector import EpisodeBuffer

RANDOM = Choice(use="random")
_EPISODES = 20  # of groups whose number of cases the suite leaves open


def record_suite(suite: Suite, namespace: str) -> Iterator[tuple[str, int]]:
    """Play each group with each clicker and with ``random``, and yield each data set's name and episodes.

    Volumes of a data set share one grid: synthetic groups keep theirs, others are played in ``SynthFM/Dataset-v0`` on
    its default grid. The first segmenter of the suite answers.

    Args:
        suite: what is played.
        namespace: of the data sets; each is called ``NAMESPACE/GROUP-CLICKER-v0``.

    Raises:
        InputError: Minari is not installed, a name that it does not take, a data set that exists, or what building
            segmenter, clickers and environments raises.
    """
    try:
        import minari
    except ImportError as error:
        raise InputError(
            "`synthfm record` needs Minari: pip install -c constraints.txt 'synthfm_env[minari]'"
        ) from error
    if not re.fullmatch(r"[\w-]+(/[\w-]+)*", namespace):
        raise InputError(f"--minari {namespace}: expected names of letters, digits, _ and -, separated by /")
    clickers = [*suite.clickers, *([] if any(c.use == RANDOM.use for c in suite.clickers) else [RANDOM])]
    names = {
        (data.name, c.label): f"{namespace}/{_slug(data.name)}-{_slug(c.label)}-v0"
        for data in suite.data
        for c in clickers
    }
    # Names must be free.
    taken = set(minari.list_local_datasets()) & set(names.values())
    if taken:
        raise InputError(f"Minari holds {min(taken)} already: give another name, or `minari delete {min(taken)}`")
    # One data set for each group and clicker.
    model = suite.segmenters[0]
    segmenter = build_segmenter(model)
    for data in suite.data:
        for choice in clickers:
            clicker = build_clicker(choice, segmenter)
            # Made by name, so that the environment's spec is JSON and can be rebuilt from the data set.
            env = PackedMask(_make(suite, data, model))
            episodes = []
            for index in range(_cases(data)):
                clicker_seed = derive_seed(suite.seed, data.name, index, choice.use)
                episodes.append(_play(env, clicker, index, derive_seed(suite.seed, data.name, index), clicker_seed))
            with warnings.catch_warnings():
                # Minari asks for an author and a link to the code, which are the user's to add.
                warnings.simplefilter("ignore", UserWarning)
                minari.create_dataset_from_buffers(
                    names[(data.name, choice.label)],
                    episodes,
                    env=env,
                    algorithm_name=choice.label,
                    description=(
                        f"{choice.label} clicking with {model.label}; group {data.name} of suite {suite.name}, seed "
                        f"{suite.seed}. Masks are packed bits; reset the recovered environment with an episode's "
                        "seed for its image."
                    ),
                    requirements=["synthfm_env"],
                    data_format="hdf5",
                )
            env.close()
            yield names[(data.name, choice.label)], len(episodes)


def _make(suite: Suite, data: Data, model: Choice) -> gym.Env[Any, Any]:
    """Return the environment of a data group, which Minari can rebuild from its spec."""
    common: dict[str, Any] = {
        "max_clicks": suite.clicks,
        "reveal_truth": True,
        "segmenter": model.use,
        "disable_env_checker": True,
    }
    if suite.start != "empty":
        common["start"] = suite.start
    if isinstance(data, SyntheticData):
        return gym.make(data.env, shape=list(data.shape), recipe=data.recipe, **common)
    # The tolerance belongs to the suite's scores, and without slices their fewest pixels have no effect.
    unused = {"tolerance_mm"} if getattr(data, "slices", None) else {"tolerance_mm", "slice_pixels"}
    table = data.model_dump(mode="json", exclude_none=True, exclude=unused)
    return gym.make("SynthFM/Dataset-v0", data=[table], split="all", **common)


def _cases(data: Data) -> int:
    return (data.cases if isinstance(data, SyntheticData | DatasetData) else None) or _EPISODES


def _play(env: PackedMask, clicker: Clicker, number: int, seed: int, clicker_seed: int) -> "EpisodeBuffer":
    """Return an episode: one observation more than actions, arrays along time."""
    from minari.data_collector import EpisodeBuffer

    observation, _ = env.reset(seed=seed)
    clicker.reset(clicker_seed)
    inner: Any = env.unwrapped
    observations, actions, rewards, ends = [observation], [], [], [(False, False)]
    while not any(ends[-1]):
        # The clicker gets the whole observation; the data set keeps the packed one.
        whole, info = inner.observe()
        actions.append(clicker.act(whole, info if clicker.oracle else {}))
        observation, reward, *end, _ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(float(reward))
        ends.append((end[0], end[1]))
    return EpisodeBuffer(
        id=number,
        seed=seed,
        observations={key: np.array([row[key] for row in observations]) for key in observation},
        actions=np.array(actions),
        rewards=rewards,
        terminations=[terminated for terminated, _ in ends[1:]],
        truncations=[truncated for _, truncated in ends[1:]],
    )


def _slug(name: str) -> str:
    return re.sub(r"[^\w]+", "-", name).strip("-").lower()
