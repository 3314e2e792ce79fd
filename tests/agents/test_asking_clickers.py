"""Tests clickers that ask a segmenter, and one that asks none."""

import gymnasium as gym
import numpy as np
import pytest
from coarse_segmenter import Coarse, CoarseSession

from synthfm_agents import make_clicker
from synthfm_env import Click, InputError
from synthfm_env.envs.actions import NEGATIVE, POSITIVE, STOP
from synthfm_env.metrics import dice

SHAPE = (6, 18, 20)


def scene(clicks=(), mask=None, seed=0):
    """An observation after some clicks, and an info with the truth, a ball."""
    truth = np.linalg.norm(np.indices(SHAPE).T - [3, 8, 9], axis=-1).T <= 5
    rows = np.full((10, 4), -1, np.int32)
    rows[: len(clicks)] = np.reshape(clicks, (-1, 4))
    observation = {
        "image": np.random.default_rng(seed).integers(0, 255, SHAPE, np.uint8),
        "mask": np.zeros(SHAPE, np.uint8) if mask is None else mask.astype(np.uint8),
        "clicks": rows,
        "spacing": np.ones(3, np.float32),
    }
    return observation, {"truth": truth}


def act(clicker, *args, **kwargs):
    return tuple(clicker.act(*scene(*args, **kwargs)).tolist())


def answer(clicks):
    """Return the segmenter's mask after clicks."""
    session = CoarseSession(SHAPE)
    return [session.add(Click((z, y, x), bool(sign))) for z, y, x, sign in clicks][-1]


def test_centre_clicks_once_and_stops():
    clicker = make_clicker("centre")
    clicker.reset(0)
    assert act(clicker) == (3, 9, 10, POSITIVE)
    assert act(clicker, [(3, 9, 10, 1)])[3] == STOP


def test_uncertain_begins_in_the_middle_and_goes_where_the_logit_is_nearest_0():
    clicker = make_clicker("uncertain", segmenter=Coarse())
    clicker.reset(0)
    clicks = [act(clicker)]
    assert clicks == [(3, 9, 10, POSITIVE)]
    for _ in range(6):
        logits = answer(clicks).logits.repeat(2, 1).repeat(2, 2)
        *zyx, kind = act(clicker, clicks)
        assert tuple(zyx) not in {click[:3] for click in clicks}
        assert kind == (POSITIVE if logits[tuple(zyx)] > 0 else NEGATIVE)
        cells = {(z, y // 2, x // 2) for z, y, x, _ in clicks}
        free = np.array([tuple(v // [1, 2, 2]) not in cells for v in np.argwhere(logits < np.inf)])
        assert abs(logits[tuple(zyx)]) == np.abs(logits.ravel()[free]).min()
        clicks.append((*zyx, kind))


def test_uncertain_says_that_it_needs_logits():
    clicker = make_clicker("uncertain", segmenter="geodesic")
    clicker.reset(0)
    with pytest.raises(InputError, match="'geodesic' has none"):
        act(clicker, [(3, 9, 10, 1)])


def test_one_image_is_encoded_once_and_another_anew():
    segmenter = Coarse()
    clicker = make_clicker("uncertain", segmenter=segmenter)
    for seed, starts in [(0, 1), (0, 1), (1, 2)]:
        clicker.reset(0)
        act(clicker, seed=seed)
        act(clicker, [(3, 9, 10, 1)], seed=seed)
        assert segmenter.starts == starts


def test_clicks_of_another_episode_are_forgotten():
    clicker, fresh = (make_clicker("uncertain", segmenter=Coarse()) for _ in range(2))
    act(clicker, [(1, 2, 3, 1), (2, 2, 2, 0)])
    assert act(clicker, [(4, 9, 9, 1)]) == act(fresh, [(4, 9, 9, 1)])
    assert act(clicker) == act(fresh)


def test_greedy_places_the_best_of_its_candidates():
    greedy, user = make_clicker("greedy-v1", segmenter=Coarse(), candidates=300), make_clicker("ritm-3d-v1")
    greedy.reset(0)
    _, info = scene()
    best, deepest = (dice(answer([act(who)]).mask, info["truth"]) for who in (greedy, user))
    every = [dice(answer([(*v, 1)]).mask, info["truth"]) for v in np.argwhere(info["truth"]).tolist()]
    assert max(every) >= best >= deepest
    greedy = make_clicker("greedy-v1", segmenter=Coarse(), candidates=len(every) + 1)
    greedy.reset(0)
    assert dice(answer([act(greedy)]).mask, info["truth"]) == max(every)


def test_greedy_with_one_candidate_clicks_like_ritm():
    greedy, user = make_clicker("greedy-v1", segmenter=Coarse(), candidates=1), make_clicker("ritm-3d-v1")
    greedy.reset(0)
    assert act(greedy) == act(user)


def test_greedy_stops_where_a_click_would_only_harm():
    greedy = make_clicker("greedy-v1", segmenter=Coarse())
    greedy.reset(0)
    truth = scene()[1]["truth"]
    assert act(greedy, mask=truth)[3] == STOP
    almost = truth.copy()
    almost[3, 8, 9] = False
    assert act(greedy, [(3, 8, 9, 1)], mask=almost)[3] == STOP


def test_greedy_never_falls_behind_ritm_on_its_first_click_in_an_environment():
    env = gym.make("synthfm_env:SynthFM/Synthetic2D-v0", shape=[1, 48, 48], segmenter="geodesic", reveal_truth=True)
    for seed in range(3):
        scores = {}
        for clicker in (make_clicker("greedy-v1", segmenter="geodesic"), make_clicker("ritm-3d-v1")):
            clicker.reset(seed)
            observation, info = env.reset(seed=seed)
            scores[clicker.name] = env.step(clicker.act(observation, info))[4]["dice"]
        assert scores["greedy-v1"] >= scores["ritm-3d-v1"]
    env.close()


@pytest.mark.parametrize(
    ("name", "answers"), [("uncertain", 1), ("greedy-v1", 9), ("blind-ppo-v1", 9), ("oracle-bc-v1", 0)]
)
def test_answers_that_a_clicker_asks_for_itself_are_counted(name, answers):
    clicker = make_clicker(name, segmenter=Coarse())
    clicker.reset(0)
    assert clicker.answers == 0
    act(clicker, [(3, 8, 9, 1)], mask=answer([(3, 8, 9, 1)]).mask)
    assert clicker.answers == answers
    assert make_clicker("ritm-3d-v1").answers == 0


def test_the_learned_oracle_tries_the_candidates_of_the_first_click_alone():
    clicker = make_clicker("oracle-ppo-v1", segmenter=Coarse())
    clicker.reset(0)
    first = act(clicker)
    assert clicker.answers == 8
    act(clicker, [first], mask=answer([first]).mask)
    assert clicker.answers == 8


def test_no_candidates_is_a_mistake():
    with pytest.raises(InputError, match="candidates=0"):
        make_clicker("greedy-v1", candidates=0)
