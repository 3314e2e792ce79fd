from types import SimpleNamespace

import torch

from synthfm_agents import make_clicker
from synthfm_bench.players import describe_clicker
from synthfm_bench.results.provenance import device_of, versions, weights_sha256
from synthfm_bench.suite import Choice
from synthfm_env import make_segmenter


def segmenter(**tensors):
    model = torch.nn.Module()
    for name, tensor in tensors.items():
        model.register_buffer(name, tensor)
    model.register_parameter("bias", torch.nn.Parameter(torch.zeros(2)))
    return SimpleNamespace(model=model)


def test_the_hash_of_weights_sees_values_names_shapes_and_types():
    base = segmenter(a=torch.tensor([1.0, 2.0]), count=torch.tensor(3))
    assert weights_sha256(base) == weights_sha256(segmenter(count=torch.tensor(3), a=torch.tensor([1.0, 2.0])))
    others = [
        segmenter(a=torch.tensor([1.0, 2.5]), count=torch.tensor(3)),
        segmenter(b=torch.tensor([1.0, 2.0]), count=torch.tensor(3)),
        segmenter(a=torch.tensor([[1.0, 2.0]]), count=torch.tensor(3)),
        segmenter(a=torch.tensor([1.0, 2.0], dtype=torch.bfloat16), count=torch.tensor(3)),
        segmenter(a=torch.tensor([1.0, 2.0]), count=torch.tensor(4)),
    ]
    ensembles = [SimpleNamespace(model=base.model, network=one) for one in others[:2]]
    assert len({weights_sha256(one) for one in [base, *others, *ensembles]}) == 8


def test_a_segmenter_without_a_model_has_no_hash_and_runs_on_the_cpu():
    assert (weights_sha256(SimpleNamespace()), device_of(SimpleNamespace())) == (None, "cpu")
    assert device_of(segmenter()) == "cpu"


def test_absent_packages_are_left_out_of_the_versions(monkeypatch):
    monkeypatch.setattr("synthfm_bench.results.provenance._PACKAGES", ("numpy", "no-such-package"))
    assert versions().keys() == {"python", "numpy"}


def test_the_hash_of_a_clicker_asks_no_network_that_its_parameters_do_not_name():
    choice = Choice(use="second-opinion-v1")
    built = [make_clicker(choice.use), make_clicker(choice.use, opinions=make_segmenter("random-walker"))]
    assert len({describe_clicker(choice, clicker)["protocol_hash"] for clicker in built}) == 1
    assert all(clicker.answers == 0 for clicker in built)
