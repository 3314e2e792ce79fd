from types import SimpleNamespace

import torch

from synthfm_bench.results.provenance import device_of, versions, weights_sha256


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
