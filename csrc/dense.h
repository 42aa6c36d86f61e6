// A layer by dense products: rows with a border, then every weight times every element.
#pragma once

#include <algorithm>
#include <cstring>

#include "layer.h"
#include "vectors.h"

namespace spikformer {
namespace {

constexpr int max_dense_tile = 64;  // sums of four positions fill the registers

// Row elements: padded to fours for dot products of bytes.
int64_t row_elements(const spk_op &op) {
    return op.arithmetic == SPK_DOT8 ? ceil_div(op.channels, 4) * 4 : op.channels;
}

// Whether nothing is in a frame of spikes or counts; what pads them is zero.
bool silent(const spk_op &op, int64_t frame) {
    const int64_t words = words_of(op.channels) * (op.storage == SPK_COUNTS ? 8 : 1);
    const uint64_t *first =
        static_cast<const uint64_t *>(op.input) + frame * positions_of(op) * words;
    uint64_t any = 0;
    for (int64_t word = 0; word < positions_of(op) * words; word++) any |= first[word];
    return !any;
}

template <class E>
void spread_frame(const spk_op &op, int64_t frame) {
    const int64_t border = op.kernel / 2, across = op.width + 2 * border;
    const int64_t elements = row_elements(op), words = words_of(op.channels);
    E *rows = static_cast<E *>(op.dense) + frame * (op.height + 2 * border) * across * elements;
    std::fill(rows, rows + (op.height + 2 * border) * across * elements, E(0));
    for (int64_t y = 0; y < op.height; y++)
        for (int64_t x = 0; x < op.width; x++) {
            E *row = rows + ((y + border) * across + x + border) * elements;
            const int64_t position = y * op.width + x;
            const int64_t at = frame * positions_of(op) + position;
            if (op.storage == SPK_SPIKES) {
                const uint64_t *bits = static_cast<const uint64_t *>(op.input) + at * words;
                for (int64_t channel = 0; channel < op.channels; channel++)
                    row[channel] = E(bits[channel / 64] >> (channel % 64) & 1);
            } else if (op.storage == SPK_COUNTS) {
                const uint8_t *counts = static_cast<const uint8_t *>(op.input) + at * words * 64;
                for (int64_t channel = 0; channel < op.channels; channel++)
                    row[channel] = E(counts[channel]);
            } else {
                const float *pixels = static_cast<const float *>(op.input) +
                                      frame * op.channels * positions_of(op) + position;
                for (int64_t channel = 0; channel < op.channels; channel++)
                    row[channel] = E(pixels[channel * positions_of(op)]);
            }
        }
}

void spread(const spk_op &op, int64_t frame, int64_t) {
    op.starts[frame] = op.storage == SPK_PIXELS || !silent(op, frame);
    if (!op.starts[frame]) return;  // silence costs nothing here either
    if (op.arithmetic == SPK_DOT8) return spread_frame<uint8_t>(op, frame);
    spread_frame<float>(op, frame);
}

// Sums of one position and tile over all taps, of float rows and float weights.
template <int tile, int at_once>
inline void products(const spk_op &op, const float *rows, int64_t across, const float *weights,
                     float (*sums)[max_dense_tile]) {
    constexpr int vectors = tile / lanes<float>;
    Vector<float> part[at_once][vectors] = {};
    for (int64_t tap = 0; tap < op.kernel * op.kernel; tap++) {
        const float *row = rows + (tap / op.kernel * across + tap % op.kernel) * op.channels;
        for (int64_t channel = 0; channel < op.channels; channel++, weights += tile)
#pragma GCC unroll 8
            for (int i = 0; i < vectors; i++) {
                const Vector<float> weight = load(weights + i * lanes<float>);
#pragma GCC unroll 8
                for (int p = 0; p < at_once; p++)
                    part[p][i] = multiply_add(weight, row[p * op.channels + channel], part[p][i]);
            }
    }
    for (int p = 0; p < at_once; p++)
        for (int i = 0; i < vectors; i++) store(sums[p] + i * lanes<float>, part[p][i]);
}

// The same of bytes and int8 weights, four channels innermost: exact in int32.
template <int tile, int at_once>
inline void products(const spk_op &op, const uint8_t *rows, int64_t across, const int8_t *weights,
                     int32_t (*sums)[max_dense_tile]) {
    const int64_t elements = row_elements(op);
#if defined(__AVX512VNNI__)
    constexpr int vectors = tile / 16;
    __m512i part[at_once][vectors] = {};
#else
    for (int p = 0; p < at_once; p++) std::fill(sums[p], sums[p] + tile, 0);
#endif
    for (int64_t tap = 0; tap < op.kernel * op.kernel; tap++) {
        const uint8_t *row = rows + (tap / op.kernel * across + tap % op.kernel) * elements;
        for (int64_t channel = 0; channel < elements; channel += 4, weights += 4 * tile) {
#if defined(__AVX512VNNI__)
            __m512i weight[vectors];
#pragma GCC unroll 4
            for (int i = 0; i < vectors; i++) weight[i] = _mm512_loadu_si512(weights + 64 * i);
#pragma GCC unroll 8
            for (int p = 0; p < at_once; p++) {
                int32_t four;
                std::memcpy(&four, row + p * elements + channel, 4);
#pragma GCC unroll 4
                for (int i = 0; i < vectors; i++)
                    part[p][i] =
                        _mm512_dpbusd_epi32(part[p][i], _mm512_set1_epi32(four), weight[i]);
            }
#else
            for (int p = 0; p < at_once; p++)
                for (int column = 0; column < tile; column++)
                    for (int k = 0; k < 4; k++)
                        sums[p][column] +=
                            int32_t(row[p * elements + channel + k]) * weights[4 * column + k];
#endif
        }
    }
#if defined(__AVX512VNNI__)
    for (int p = 0; p < at_once; p++)
        for (int i = 0; i < vectors; i++) _mm512_storeu_si512(sums[p] + 16 * i, part[p][i]);
#endif
}

// Products of `at_once` neighbours in an image's row share each load of a weight.
template <class Row, class Weight, class Sum, int tile>
void multiply(const spk_op &op, const Where &at) {
    constexpr int at_once = 4;
    const int64_t border = op.kernel / 2, across = op.width + 2 * border,
                  elements = row_elements(op);
    const int64_t frame_elements = (op.height + 2 * border) * across * elements;
    const Weight *weights =
        static_cast<const Weight *>(op.weights) + at.column * op.kernel * op.kernel * elements;
    alignas(64) Sum sums[at_once][max_dense_tile];
    alignas(64) float rest[at_once][tile];
    for (int64_t position = at.first; position < at.last;) {
        const int64_t y = position / op.width, x = position % op.width;
        const bool whole = x + at_once <= op.width && position + at_once <= at.last;
        const int64_t together = whole ? at_once : 1;
        float *potential[at_once];
        for (int64_t p = 0; p < together; p++)
            potential[p] = potentials(op, at, position + p, rest[p]);
        for (int64_t step = 0; step < op.steps; step++) {
            const int64_t frame = at.image * op.steps_in + step;
            if (step < op.steps_in && !op.starts[frame]) {
                for (int64_t p = 0; p < together; p++) std::fill(sums[p], sums[p] + tile, Sum(0));
            } else if (step < op.steps_in) {
                const Row *rows = static_cast<const Row *>(op.dense) + frame * frame_elements +
                                  (y * across + x) * elements;
                if (whole) products<tile, at_once>(op, rows, across, weights, sums);
                else products<tile, 1>(op, rows, across, weights, sums);
            }
            for (int64_t p = 0; p < together; p++)
                fire_tile<tile>(op, at, step, position + p, sums[p], potential[p]);
        }
        position += together;
    }
}

template <int tile>
struct MultiplyTile {
    static void run(const spk_op &op, const Where &at) {
        if constexpr (tile <= max_dense_tile) {
            if (op.arithmetic == SPK_DOT8) multiply<uint8_t, int8_t, int32_t, tile>(op, at);
            else multiply<float, float, float, tile>(op, at);
        }
    }
};

void multiply(const spk_op &op, int64_t item, int64_t) {
    by_tile<MultiplyTile>(op, Where(op, item));
}

}  // namespace
}  // namespace spikformer
