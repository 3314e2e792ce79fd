"""Episodes of a suite as Minari data sets."""

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from synthfm_agents import Clicker
from synthfm_bench.plan import derive_seed
from synthfm_bench.players import build_clicker, build_segmenter
from synthfm_bench.suite import Choice, Data, DatasetData, Suite, SyntheticData
from synthfm_env.envs.wrappers import PackedMask
from synthfm_env.errors import InputError, UserFacingError
from synthfm_env.plural import plural
from synthfm_env.printable import error_line, printable

if TYPE_CHECKING:
    from minari.data_collector import EpisodeBuffer

RANDOM = Choice(use="random")
_EPISODES = 20  # of groups whose number of cases the suite leaves open
_SHORTEST = 2  # characters of a namespace that Minari takes


class _ClickerError(Exception):
    """A clicker failed in an episode; the text is the case, the cause the clicker's exception."""


def record_suite(suite: Suite, namespace: str) -> Iterator[tuple[str, int]]:
    """Play each group with each clicker and with ``random``, and yield each data set's name and episodes.

    Volumes of a data set share one grid: synthetic groups keep theirs, others are played in ``SynthFM/Dataset-v0`` on
    its default grid. The first segmenter of the suite answers. All is checked before the first episode.

    Args:
        suite: what is played.
        namespace: of the data sets; each is called ``NAMESPACE/GROUP-CLICKER-v0``.

    Raises:
        InputError: Minari is not installed, a name that it does not take, a data set that exists, a clicker whose
            clicks are one prompt, or what building segmenter, clickers and environments raises.
        UserFacingError: a clicker failed; the episodes before are kept.
    """
    try:
        import minari
    except ImportError as error:
        raise InputError(
            "`synthfm record` needs Minari: pip install -c constraints.txt 'synthfm_env[minari]'"
        ) from error
    choices = [*suite.clickers, *([] if any(c.use == RANDOM.use for c in suite.clickers) else [RANDOM])]
    # Names must be Minari's, distinct and free.
    names = _names(suite, choices, namespace)
    taken = set(minari.list_local_datasets()) & set(names.values())
    if taken:
        raise InputError(f"Minari holds {min(taken)} already: give another name, or `minari delete {min(taken)}`")
    # Clickers and environments must be such that their steps can be recorded.
    model = suite.segmenters[0]
    segmenter = build_segmenter(model)
    clickers = [build_clicker(choice, segmenter) for choice in choices]
    for choice, clicker in zip(choices, clickers, strict=True):
        if type(clicker).at_once:
            raise InputError(
                f"clicker {choice.label} gives all its clicks as one prompt, and `synthfm record` records one click a "
                "step: name others with --clicker"
            )
    # Made by name, so that the environment's spec is JSON and can be rebuilt from the data set.
    envs = [PackedMask(_make(suite, data, model)) for data in suite.data]
    # One data set for each group and clicker.
    for data, env in zip(suite.data, envs, strict=True):
        for choice, clicker in zip(choices, clickers, strict=True):
            name = names[(data.name, choice.label)]
            episodes: list[EpisodeBuffer] = []
            failed = _play_all(suite, data, env, choice, clicker, episodes)
            if episodes:
                description = (
                    f"{choice.label} clicking with {model.label}; group {data.name} of suite {suite.name}, seed "
                    f"{suite.seed}. Masks are packed bits; reset the recovered environment with an episode's seed for "
                    "its image."
                )
                _write(name, episodes, env, choice, description)
            if failed is not None:
                kept = f"{plural(len(episodes), 'episode')} before it are in {name}" if episodes else "none was before"
                raise UserFacingError(f"{failed}; {kept}")
            yield name, len(episodes)
        env.close()


def _names(suite: Suite, choices: Sequence[Choice], namespace: str) -> dict[tuple[str, str], str]:
    """Return the name of each data set by group and clicker.

    Raises:
        InputError: Minari does not take the namespace, or two data sets have one name.
    """
    if not re.fullmatch(r"[\w-]+(/[\w-]+)*", namespace) or len(namespace) < _SHORTEST:
        raise InputError(
            f"--minari {printable(namespace)}: expected names of letters, digits, _ and -, separated by /, "
            f"{_SHORTEST} characters or more"
        )
    names = {
        (data.name, choice.label): f"{namespace}/{_slug(data.name)}-{_slug(choice.label)}-v0"
        for data in suite.data
        for choice in choices
    }
    first: dict[str, tuple[str, str]] = {}
    for (data, label), name in names.items():
        for text in (data, label):
            if not _slug(text):
                raise InputError(f"{printable(text)}: holds no letter or digit for a name in Minari; rename it")
        if name in first:
            other = printable(" with ".join(first[name]))
            raise InputError(f"{printable(data)} with {printable(label)} and {other} would both be {name}; rename one")
        first[name] = data, label
    return names


def _make(suite: Suite, data: Data, model: Choice) -> gym.Env[Any, Any]:
    """Return the environment of a data group, which Minari can rebuild from its spec."""
    common: dict[str, Any] = {
        "max_clicks": suite.clicks,
        "reveal_truth": True,
        "segmenter": {"use": model.use, "params": model.params} if model.params else model.use,
        "disable_env_checker": True,
        **suite.start_options,
    }
    if isinstance(data, SyntheticData):
        return gym.make(data.env, shape=list(data.shape), recipe=data.recipe, **common)
    # The tolerance belongs to the suite's scores, and without slices their fewest pixels have no effect.
    unused = {"tolerance_mm"} if data.slices else {"tolerance_mm", "slice_pixels"}
    table = data.model_dump(mode="json", exclude_none=True, exclude=unused)
    return gym.make("SynthFM/Dataset-v0", data=[table], split="all", **common)


def _play_all(
    suite: Suite, data: Data, env: PackedMask, choice: Choice, clicker: Clicker, episodes: "list[EpisodeBuffer]"
) -> str | None:
    """Append the episodes of a group and a clicker; return the clicker's failure, which ends them, or None."""
    for index in range(_cases(data)):
        seed = derive_seed(suite.seed, data.name, index)
        try:
            episodes.append(_play(env, clicker, index, seed, derive_seed(suite.seed, data.name, index, choice.use)))
        except _ClickerError as error:
            cause = error_line(error.__cause__ or error)
            return f"clicker {choice.label} failed on case {error} of {data.name}: {cause}"
    return None


def _write(name: str, episodes: "list[EpisodeBuffer]", env: PackedMask, choice: Choice, description: str) -> None:
    import minari

    with warnings.catch_warnings():
        # Minari asks for an author and a link to the code, which are the user's to add.
        warnings.simplefilter("ignore", UserWarning)
        minari.create_dataset_from_buffers(
            name,
            episodes,
            env=env,
            algorithm_name=choice.label,
            description=description,
            requirements=["synthfm_env"],
            data_format="hdf5",
        )


def _cases(data: Data) -> int:
    return (data.cases if isinstance(data, SyntheticData | DatasetData) else None) or _EPISODES


def _play(env: PackedMask, clicker: Clicker, number: int, seed: int, clicker_seed: int) -> "EpisodeBuffer":
    """Return an episode: one observation more than actions, arrays along time.

    Raises:
        _ClickerError: the clicker raised an exception, or returned no action.
    """
    from minari.data_collector import EpisodeBuffer

    observation, info = env.reset(seed=seed)
    case = printable(info["case_id"])
    inner: Any = env.unwrapped
    observations, actions, rewards, ends = [observation], [], [], [(False, False)]
    while not any(ends[-1]):
        # The clicker gets the whole observation; the data set keeps the packed one.
        whole, info = inner.observe()
        try:
            if len(observations) == 1:
                clicker.reset(clicker_seed)
            actions.append(clicker.act(whole, info if clicker.oracle else {}))
            observation, reward, *end, _ = env.step(actions[-1])
        except Exception as error:  # a clicker's code may raise anything; a segmenter's failure ends an episode
            raise _ClickerError(case) from error
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
