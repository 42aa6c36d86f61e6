// Neurons: what turns a tile of currents into a tile of bits, and keeps potentials between steps.
#pragma once

#include "engine.h"
#include "vectors.h"

namespace spikformer {
namespace {

template <int charge>
inline Vector<float> charged(Vector<float> v, Vector<float> x, const spk_neuron &neuron) {
    if (charge == SPK_SUM) return v + x;
    const Vector<float> drive = x - (v - neuron.rest);
    return charge == SPK_MULTIPLY ? v + drive * neuron.rate : v + drive / neuron.tau;
}

// One step of `columns` neurons, 32 at most: currents = sums * scales + bias, or sums + bias for
// float sums.
template <int columns, int charge, class Sum>
inline uint32_t fire(const spk_neuron &neuron, const Sum *sums, const float *scales,
                     const float *bias, float *potential) {
    constexpr int width = lanes<float>;
    const Vector<float> threshold = Vector<float>{} + neuron.threshold;
    const Vector<float> rest = Vector<float>{} + neuron.rest;
    uint32_t bits = 0;
#pragma GCC unroll 16
    for (int column = 0; column < columns; column += width) {
        Vector<float> x = floats(sums + column);
        if (scales) x = x * load(scales + column);
        if (bias) x = x + load(bias + column);
        const Vector<float> u = charged<charge>(load(potential + column), x, neuron);
        const Vector<float> reset = neuron.soft_reset ? u - threshold : rest;
        store(potential + column, u >= threshold ? reset : u);
        bits |= at_least(u, threshold) << column;
    }
    return bits;
}

template <int columns, class Sum>
inline uint32_t fire(const spk_neuron &neuron, const Sum *sums, const float *scales,
                     const float *bias, float *potential) {
    switch (neuron.charge) {
        case SPK_SUM: return fire<columns, SPK_SUM>(neuron, sums, scales, bias, potential);
        case SPK_MULTIPLY:
            return fire<columns, SPK_MULTIPLY>(neuron, sums, scales, bias, potential);
        default: return fire<columns, SPK_DIVIDE>(neuron, sums, scales, bias, potential);
    }
}

}  // namespace
}  // namespace spikformer
