"""Neurons, layers and attention: the parts that models are made of."""

from spikformer.nn._resolve import resolve
from spikformer.nn.attention import ATTENTIONS, AttentionFactory, SpikingSelfAttention
from spikformer.nn.block import EncoderBlock
from spikformer.nn.layers import BatchNorm, SpikingConv, frozen_statistics, share_statistics
from spikformer.nn.neurons import IF, LIF, NEURONS, PLIF, Neuron, NeuronFactory
from spikformer.nn.patch import SpikingPatchSplitting

__all__ = [
    "ATTENTIONS",
    "IF",
    "LIF",
    "NEURONS",
    "PLIF",
    "AttentionFactory",
    "BatchNorm",
    "EncoderBlock",
    "Neuron",
    "NeuronFactory",
    "SpikingConv",
    "SpikingPatchSplitting",
    "SpikingSelfAttention",
    "frozen_statistics",
    "resolve",
    "share_statistics",
]
