"""Tests candidate clicks: their places, their features, and the wrappers that choose among them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ball_segmenter import BALL_LOGITS, BallSegmenter
from env_cases import IDS
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation

from synthfm_agents import make_clicker
from synthfm_env import Click, InputError, VolumeEnv
from synthfm_env.candidates import FEATURES, PromptState, blind_candidates, oracle_candidates
from synthfm_env.envs.wrappers import (
    CandidateClicks,
    EffortCost,
    ErrorMap,
    NoisyClicks,
    PackedMask,
    SliceLockedAction,
    VectorCandidateClicks,
)

every_id = pytest.mark.parametrize("env_id", IDS)
wrapped = pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
SPACING = (2.0, 1.0, 1.0)


def two_errors():
    """A truth of two boxes; the mask misses the small one and covers a part of the background."""
    truth = np.zeros((12, 40, 40), bool)
    truth[3:9, 5:15, 5:15] = True
    truth[4:8, 25:31, 25:31] = True
    mask = np.zeros_like(truth)
    mask[3:9, 5:15, 5:25] = True
    image = np.where(truth, 180, 60).astype(np.uint8)
    return PromptState(image, mask, (Click((5, 9, 9)),), SPACING, truth=truth)


def feature(candidates, name):
    return candidates.features[:, FEATURES.index(name)]


def test_oracle_candidates_are_errors_with_the_right_sign():
    state = two_errors()
    found = oracle_candidates(state, 8)
    assert 4 < len(found.clicks) <= 8
    assert len({click.zyx for click in found.clicks}) == len(found.clicks)
    for click in found.clicks:
        assert state.truth[click.zyx] == click.positive
        assert state.mask[click.zyx] != click.positive


@pytest.mark.parametrize(("rule", "place"), [("synthfm-mm-v1", 0), ("ritm-3d-v1", None)])
def test_the_rules_clicks_are_among_the_oracles_candidates(rule, place):
    state = two_errors()
    clicker = make_clicker(rule)
    clicker.reset(0)
    rows = np.array([[*state.clicks[0].zyx, 1]])
    observation = {"image": state.image, "mask": state.mask, "clicks": rows, "spacing": np.array(SPACING)}
    expected = tuple(clicker.act(observation, {"truth": state.truth})[:3].tolist())
    clicks = [click.zyx for click in oracle_candidates(state, 8).clicks]
    assert expected in clicks[:2]
    assert place is None or clicks[place] == expected


def test_each_error_is_proposed_before_any_twice():
    clicks = oracle_candidates(two_errors(), 3).clicks
    assert {click.positive for click in clicks} == {True, False}


def test_no_error_no_candidate():
    state = two_errors()
    perfect = PromptState(state.image, state.truth, state.clicks, SPACING, truth=state.truth)
    assert oracle_candidates(perfect, 3).clicks == ()


def test_features_measure_what_they_are_named_after():
    state = two_errors()
    found = oracle_candidates(state, 8)
    one = next(i for i, click in enumerate(found.clicks) if click.positive)
    zyx = found.clicks[one].zyx
    assert feature(found, "sign")[one] == 1
    assert feature(found, "depth_mm")[one] == pytest.approx(np.log1p(3.0)), "six voxels wide: three deep"
    assert feature(found, "region_volume")[one] == pytest.approx(np.log10(1 + 4 * 6 * 6 * 2))
    distance = np.linalg.norm(np.subtract(zyx, (5, 9, 9)) * SPACING)
    assert feature(found, "from_positive")[one] == pytest.approx(distance / state.radius, rel=1e-5)
    assert feature(found, "from_negative")[one] == 4, "no negative click yet"
    assert feature(found, "grey_from_positive")[one] == pytest.approx(0)
    assert feature(found, "score")[one] == pytest.approx(2 * 600 / (1200 + 744))


def test_blind_candidates_do_not_depend_on_the_truth():
    state = two_errors()
    blind = PromptState(state.image, state.mask, state.clicks, SPACING)
    first, second = blind_candidates(state, 8), blind_candidates(blind, 8)
    assert first.clicks == second.clicks
    assert len(first.clicks) == 8
    assert {click.positive for click in first.clicks} == {True, False}


def test_the_least_certain_voxel_is_proposed_with_both_signs():
    state = two_errors()
    logits = np.where(state.mask, 4.0, -4.0).astype(np.float32)
    logits[6, 30, 30] = 0.1  # beyond the mask's surroundings
    logits[6, 10, 20] = 0.2
    found = blind_candidates(PromptState(state.image, state.mask, state.clicks, SPACING, logits=logits), 6)
    assert {Click((6, 10, 20)), Click((6, 10, 20), positive=False)} <= set(found.clicks)


@every_id
@pytest.mark.parametrize("oracle", [False, True])
@wrapped
def test_gymnasiums_checker_finds_nothing_and_the_spec_survives_json(make, env_id, oracle):
    env = CandidateClicks(make(env_id, segmenter=BALL_LOGITS, start="click", reveal_truth=oracle), k=5, oracle=oracle)
    first, _ = env.reset(seed=2)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert data_equivalence(again.reset(seed=2)[0], first, exact=True)
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("oracle", [False, True])
def test_candidates_are_tried_and_taken_back(volume, oracle):
    made = VolumeEnv(image=volume, segmenter=BallSegmenter(), start="click", structure="box", reveal_truth=True)
    env = CandidateClicks(made, k=4, oracle=oracle, look_ahead=2)
    observation, _ = env.reset(seed=0)
    count = int(env.action_masks()[:-1].sum())
    candidates = observation["candidates"][:count]
    assert (candidates[:, FEATURES.index("tried")] == 1).all()
    before = made.session.clicks
    mask = observation["mask"] > 0
    observation, reward, *_ = env.step(1)
    assert made.session.clicks[: len(before)] == before
    assert len(made.session.clicks) == len(before) + 1
    answer = observation["mask"] > 0
    overlap = 2 * (mask & answer).sum() / (mask.sum() + answer.sum())
    assert candidates[1, FEATURES.index("overlap")] == pytest.approx(overlap)
    gain = candidates[1, FEATURES.index("gain")]
    assert gain == (pytest.approx(10 * reward, abs=1e-5) if oracle else 0)
    assert not observation["candidates"][:, FEATURES.index("tried")].any(), "two clicks are in force"


def test_a_segmenter_that_fails_while_candidates_are_tried_is_told_by_the_step(volume):
    segmenter = BallSegmenter()
    env = CandidateClicks(VolumeEnv(image=volume, segmenter=segmenter, start="click"), k=3, look_ahead=9)
    env.reset(seed=0)
    segmenter.add_many = None  # any call raises
    observation, *_, info = env.step(0)
    assert info["outcome"] == "running"
    assert not observation["candidates"][:, FEATURES.index("tried")].any()


def test_masks_tell_what_may_be_chosen(volume):
    env = CandidateClicks(VolumeEnv(image=volume, segmenter=BallSegmenter(), start="click", structure="box"), k=6)
    observation, _ = env.reset(seed=0)
    mask = env.action_masks()
    assert mask.shape == (7,)
    assert mask[-1]
    assert (mask[:-1] == (observation["candidate_clicks"][:, 0] >= 0)).all()
    expected = observation["candidate_clicks"][0].tolist()
    observation, *_ = env.step(0)
    assert observation["clicks"][1].tolist() == expected
    assert env.step(6)[4]["outcome"] == "stopped"


def test_a_number_without_a_candidate_stops(volume):
    env = CandidateClicks(VolumeEnv(image=volume, segmenter=BallSegmenter()), k=6)
    env.reset(seed=0)
    assert env.action_masks().tolist() == [True, *[False] * 5, True]
    assert env.step(3)[4]["outcome"] == "stopped"


@pytest.mark.parametrize("action", [-1, 7, 2.0, "a", None, [0]])
def test_actions_that_there_are_not_are_refused(volume, action):
    env = CandidateClicks(VolumeEnv(image=volume, segmenter=BallSegmenter(), start="empty"), k=6)
    env.reset(seed=0)
    with pytest.raises(InputError, match=r"expected the number of a candidate, or 6 to stop"):
        env.step(action)


def test_a_vector_of_choices_is_what_single_ones_are(make):
    env_id = "SynthFM/Synthetic3D-v0"
    kwargs = make(env_id, segmenter=BALL_LOGITS, start="click", max_clicks=2, reveal_truth=True).spec.kwargs
    look = {"k": 4, "oracle": True, "look_ahead": 2}
    vector = VectorCandidateClicks(gym.make_vec(env_id, num_envs=2, workers=0, **kwargs), **look)
    singles = [CandidateClicks(gym.make(env_id, **kwargs), **look) for _ in range(2)]
    observations, _ = vector.reset(seed=5)
    expected = [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)]
    for _ in range(2):
        for i, one in enumerate(expected):
            assert (observations["candidates"][i] == one["candidates"]).all()
        assert (vector.action_masks() == [env.action_masks() for env in singles]).all()
        observations, rewards, *_ = vector.step(np.array([1, 0]))
        results = [env.step(action) for env, action in zip(singles, (1, 0), strict=True)]
        expected = [result[0] for result in results]
        assert rewards.tolist() == [result[1] for result in results]
    assert vector.observation_space["candidates"].shape == (2, 4, len(FEATURES))
    vector.step(np.array([99, 99]))  # both begin anew


def test_the_last_observation_of_an_episode_is_what_single_ones_give(make):
    env_id = "SynthFM/Synthetic3D-v0"
    kwargs = make(env_id, segmenter=BALL_LOGITS, start="click", max_clicks=2).spec.kwargs
    look = {"k": 4, "look_ahead": 3}
    mine = gym.make_vec(env_id, num_envs=2, workers=0, autoreset_mode="SameStep", **kwargs)
    mine = VectorCandidateClicks(mine, **look)
    theirs = SyncVectorEnv(
        [lambda: CandidateClicks(gym.make(env_id, **kwargs), **look) for _ in range(2)], autoreset_mode="SameStep"
    )
    assert data_equivalence(mine.reset(seed=5), theirs.reset(seed=5), exact=True)
    for _ in range(4):
        ours, others = (env.step(np.array([0, 1])) for env in (mine, theirs))
        assert data_equivalence(ours, others, exact=True)
    assert mine.single_observation_space.contains(ours[4]["final_obs"][0])


def test_a_failure_of_the_segmenter_leaves_the_neighbours_candidates_alone(make):
    class Picky(BallSegmenter):
        """Fails on negative clicks in bright images."""

        def start(self, image, spacing):
            session = super().start(image, spacing)
            add = session.add

            def picky(click):
                if image.mean() > limit and not click.positive:
                    raise RuntimeError("not in this image")
                return add(click)

            session.add = picky
            return session

    env_id, limit = "SynthFM/Synthetic3D-v0", np.inf
    kwargs = make(env_id, start="click").spec.kwargs | {"segmenter": Picky()}
    singles = [CandidateClicks(gym.make(env_id, **kwargs), k=6, look_ahead=9) for _ in range(3)]
    limit = sorted(env.reset(seed=i)[0]["image"].mean() for i, env in enumerate(singles))[1]
    vector = VectorCandidateClicks(gym.make_vec(env_id, num_envs=3, workers=0, **kwargs), k=6, look_ahead=9)
    together = vector.reset(seed=0)[0]["candidates"]
    assert (together == [env.reset(seed=i)[0]["candidates"] for i, env in enumerate(singles)]).all()
    assert sorted(together[:, 0, FEATURES.index("tried")]) == [0, 1, 1]


def two_environments():
    return gym.make_vec(
        "SynthFM/Synthetic3D-v0", num_envs=2, workers=0, shape=[8, 32, 32], segmenter="geodesic", start="click"
    )


def test_choices_before_reset_are_refused(volume):
    vector, single = two_environments(), VolumeEnv(image=volume, segmenter=BallSegmenter())
    for env, action in ((VectorCandidateClicks(vector, k=3), [0, 0]), (CandidateClicks(single, k=3), 0)):
        with pytest.raises(gym.error.ResetNeeded, match=r"call env\.reset\(\) before env\.step\(\)"):
            env.step(action)
        with pytest.raises(gym.error.ResetNeeded, match=r"call env\.reset\(\) before env\.action_masks\(\)"):
            env.action_masks()
    vector.close()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0], r"shape \(1,\), expected \(2,\)"),
        ([0, 0, 0], r"shape \(3,\), expected \(2,\)"),
        (0, r"shape \(\), expected \(2,\).* 3 to stop"),
        (None, r"shape \(\), expected \(2,\)"),
        ([[0], [0]], r"shape \(2, 1\), expected \(2,\)"),
        ([[0], [0, 1]], r"got action \[0\]"),
        ([0, 4], "got action 4"),
        (np.zeros(2), r"got action 0\.0"),
    ],
)
def test_wrong_actions_of_a_vector_change_nothing(actions, message):
    env = VectorCandidateClicks(two_environments(), k=3)
    before = env.reset(seed=0)[0]
    with pytest.raises(InputError, match=message):
        env.step(actions)
    after = env.step(torch.tensor([3, 3]))[0]
    assert (after["clicks"] == before["clicks"]).all()
    env.close()


@pytest.mark.parametrize(
    ("wrap", "outer"),
    [(PackedMask, "PackedMask"), (lambda env: FrameStackObservation(env, 2), "FrameStackObservation")],
)
@pytest.mark.parametrize(
    "wrapper", [CandidateClicks, ErrorMap, lambda env: NoisyClicks(env, missed_mm3=5.0)], ids=["choose", "map", "noise"]
)
def test_a_wrapper_inside_that_changes_the_observation_is_named(volume, wrapper, wrap, outer):
    env = VolumeEnv(image=volume, segmenter=BallSegmenter(), reveal_truth=True)
    with pytest.raises(InputError, match=f"which {outer} changes or leaves out: wrap it inside {outer}"):
        wrapper(gym.wrappers.TimeLimit(wrap(env), 5))
    assert wrap(wrapper(env)).reset(seed=0)


@wrapped
def test_the_error_map_shows_what_is_missed_and_what_is_false(volume):
    env = ErrorMap(VolumeEnv(image=volume, segmenter=BallSegmenter(), start="click", reveal_truth=True))
    observation, info = env.reset(seed=0)
    missed, false = observation["error"] > 0
    mask = observation["mask"] > 0
    assert (missed == (info["truth"] & ~mask)).all()
    assert (false == (mask & ~info["truth"])).all()
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize(
    ("wrapper", "name", "value"),
    [
        *((CandidateClicks, "k", value) for value in ("3", None, 1.5, True)),
        *((CandidateClicks, "look_ahead", value) for value in ("3", None, 1.5, True)),
        *((CandidateClicks, "oracle", value) for value in ("no", None, 1)),
        *((EffortCost, "per_click", value) for value in ("1", None, True, -1, np.nan)),
        *((NoisyClicks, "jitter_mm", value) for value in ("1", None, True, np.nan, 1e300)),
    ],
)
def test_arguments_of_another_type_are_refused(volume, wrapper, name, value):
    env = VolumeEnv(image=volume, segmenter=BallSegmenter(), reveal_truth=True)
    with pytest.raises(InputError, match=rf"{name} is "):
        wrapper(env, **{name: value})


def test_wrong_arguments_are_explained(volume):
    env = VolumeEnv(image=volume, segmenter=BallSegmenter())
    with pytest.raises(InputError, match="k=1000000000: the table of features needs"):
        CandidateClicks(env, k=10**9)
    with pytest.raises(InputError, match="k is 0"):
        CandidateClicks(env, k=0)
    with pytest.raises(InputError, match="look_ahead is -1"):
        CandidateClicks(env, look_ahead=-1)
    with pytest.raises(InputError, match="oracle=True needs the truth"):
        CandidateClicks(env, oracle=True)
    with pytest.raises(InputError, match="needs the actions z, y, x, kind"):
        CandidateClicks(SliceLockedAction(env))
    with pytest.raises(InputError, match="ErrorMap needs the truth"):
        ErrorMap(env)
    with pytest.raises(InputError, match=r"gym\.make_vec made.*got CartPoleVectorEnv"):
        VectorCandidateClicks(gym.make_vec("CartPole-v1", num_envs=2))


def test_the_wrapper_of_the_other_kind_of_environment_is_named(volume):
    vector = two_environments()
    with pytest.raises(InputError, match="got SyntheticVectorEnv, a vector environment: use VectorCandidateClicks"):
        CandidateClicks(vector)
    with pytest.raises(InputError, match="got VolumeEnv, a single environment: use CandidateClicks"):
        VectorCandidateClicks(VolumeEnv(image=volume, segmenter=BallSegmenter()))
    with pytest.raises(InputError, match=r"CandidateClicks got None.*gym\.make"):
        CandidateClicks(None)
    vector.close()
