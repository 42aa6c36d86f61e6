// What both paths of a layer share: its items, and a tile of neurons that fires.
#pragma once

#include <algorithm>
#include <cstring>

#include "neuron.h"
#include "spikes.h"

namespace spikformer {
namespace {

int64_t layer_items(const spk_op &op) {
    return op.images * ceil_div(positions_of(op), op.block) * ceil_div(op.out_channels, op.tile);
}

// An item of a layer: some positions of an image, and a tile of its output channels.
struct Where {
    int64_t image, first, last, column, words_out;

    Where(const spk_op &op, int64_t item) {
        const int64_t blocks = ceil_div(positions_of(op), op.block);
        const int64_t tiles = ceil_div(op.out_channels, op.tile);
        first = item % blocks * op.block;
        last = std::min(first + op.block, positions_of(op));
        column = item / blocks % tiles * op.tile;
        image = item / blocks / tiles;
        words_out = words_of(op.out_channels);
    }
};

// Where a position's potentials are, or `rest` filled up when none are kept.
inline float *potentials(const spk_op &op, const Where &at, int64_t position, float *rest) {
    if (op.potential)
        return op.potential + (at.image * positions_of(op) + position) * at.words_out * 64 +
               at.column;
    std::fill(rest, rest + op.tile, op.neuron.rest);
    return rest;
}

// One step of a tile of neurons, written as the tile's bits.
template <int tile, class Sum>
inline void fire_tile(const spk_op &op, const Where &at, int64_t step, int64_t position,
                      const Sum *sums, float *potential) {
    constexpr int columns = tile < 32 ? tile : 32;
    const int64_t row = (at.image * op.steps + step) * positions_of(op) + position;
    char *out = static_cast<char *>(op.output) + row * at.words_out * 8;
#pragma GCC unroll 4
    for (int first = 0; first < tile; first += columns) {
        const int64_t column = at.column + first, left = op.out_channels - column;
        if (left <= 0) return;
        const float *scales = op.scales ? op.scales + column : nullptr;
        uint32_t bits =
            fire<columns>(op.neuron, sums + first, scales, op.bias + column, potential + first);
        if (left < columns) bits &= (uint32_t(1) << left) - 1;
        std::memcpy(out + column / 8, &bits, columns / 8);
    }
}

template <template <int> class Do>
void by_tile(const spk_op &op, const Where &at) {
    switch (op.tile) {
        case 16: return Do<16>::run(op, at);
        case 32: return Do<32>::run(op, at);
        case 64: return Do<64>::run(op, at);
        case 96: return Do<96>::run(op, at);
        default: return Do<128>::run(op, at);
    }
}

}  // namespace
}  // namespace spikformer
