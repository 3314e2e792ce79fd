"""Provides a volume network with random weights whose masks are not empty."""

import torch

from synthfm_env.segmenters.volume_network.network import NetworkArchitecture, VolumeNetwork
from synthfm_env.segmenters.volume_network.segmenter import VolumeNetworkSegmenter


def small_network(dimensions: int = 3) -> VolumeNetwork:
    """Return a network whose masks are about as likely as not, and follow the clicks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = VolumeNetwork(NetworkArchitecture(dimensions, (8, 16, 16)))
        for name, parameter in network.named_parameters():
            if name.endswith("second.weight"):
                torch.nn.init.normal_(parameter, std=0.05)
    return network


def small_segmenter() -> VolumeNetworkSegmenter:
    """Return a segmenter of volumes and images."""
    return VolumeNetworkSegmenter("small", {3: small_network(3), 2: small_network(2)}, torch.device("cpu"))
