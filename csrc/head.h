// The head: sums over tokens and steps, and a linear classifier.
#pragma once

#include <algorithm>

#include "spikes.h"

namespace spikformer {
namespace {

void classify(const spk_op &op, const int32_t *totals, double divisor, float *logits) {
    const float *weights = static_cast<const float *>(op.weights);
    for (int64_t k = 0; k < op.out_channels; k++) {
        double logit = 0;
        for (int64_t channel = 0; channel < op.channels; channel++)
            logit += static_cast<float>(totals[channel] / divisor) *
                     static_cast<double>(weights[k * op.channels + channel]);
        logits[k] = static_cast<float>(logit + op.bias[k]);
    }
}

void head(const spk_op &op, int64_t image, int64_t thread) {
    const int64_t tokens = positions_of(op), words = words_of(op.channels);
    int32_t *whole =
        reinterpret_cast<int32_t *>(static_cast<char *>(op.scratch) + thread * op.scratch_bytes);
    int32_t *step_sums = whole + op.channels;
    std::fill(whole, whole + op.channels, 0);
    for (int64_t step = 0; step < op.steps; step++) {
        std::fill(step_sums, step_sums + op.channels, 0);
        for (int64_t token = 0; token < tokens; token++) {
            const int64_t row = (image * op.steps + step) * tokens + token;
            if (op.storage == SPK_COUNTS) {
                const uint8_t *counts = static_cast<const uint8_t *>(op.input) + row * words * 64;
                for (int64_t channel = 0; channel < op.channels; channel++)
                    step_sums[channel] += counts[channel];
            } else {
                for_each_bit(static_cast<const uint64_t *>(op.input) + row * words, 0, op.channels,
                             [&](int64_t channel) { step_sums[channel]++; });
            }
        }
        for (int64_t channel = 0; channel < op.channels; channel++)
            whole[channel] += step_sums[channel];
        classify(
            op, step_sums, double(tokens),
            static_cast<float *>(op.steps_output) + (image * op.steps + step) * op.out_channels);
    }
    classify(op, whole, double(tokens) * op.steps,
             static_cast<float *>(op.output) + image * op.out_channels);
}

}  // namespace
}  // namespace spikformer
