// Pools and residuals: OR of spikes, sums of spikes and counts.
#pragma once

#include <algorithm>
#include <cstring>

#include "spikes.h"
#include "vectors.h"

namespace spikformer {
namespace {

void pool(const spk_op &op, int64_t frame, int64_t) {
    const int64_t words = words_of(op.channels);
    const int64_t height = (op.height + 1) / 2, width = (op.width + 1) / 2;
    const uint64_t *in = static_cast<const uint64_t *>(op.input) + frame * positions_of(op) * words;
    uint64_t *out = static_cast<uint64_t *>(op.output) + frame * height * width * words;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++, out += words) {
            std::fill(out, out + words, 0);
            for (int64_t iy = std::max<int64_t>(2 * y - 1, 0);
                 iy <= std::min(2 * y + 1, op.height - 1); iy++)
                for (int64_t ix = std::max<int64_t>(2 * x - 1, 0);
                     ix <= std::min(2 * x + 1, op.width - 1); ix++)
                    for (int64_t word = 0; word < words; word++)
                        out[word] |= in[(iy * op.width + ix) * words + word];
        }
}

inline void add_onto(uint8_t *counts, const void *from, int32_t storage, int64_t row,
                     int64_t words) {
    if (storage == SPK_COUNTS) {
        const uint8_t *more = static_cast<const uint8_t *>(from) + row * words * 64;
        for (int64_t i = 0; i < words * 64; i++) counts[i] += more[i];
        return;
    }
    const uint64_t *bits = static_cast<const uint64_t *>(from) + row * words;
    for (int64_t word = 0; word < words; word++) {
#if defined(__AVX512BW__)
        uint8_t *at = counts + word * 64;
        const __m512i old = _mm512_loadu_si512(at);
        _mm512_storeu_si512(at, _mm512_mask_add_epi8(old, bits[word], old, _mm512_set1_epi8(1)));
#else
        for (int64_t byte = 0; byte < 8; byte++) {
            uint64_t eight;
            uint8_t *at = counts + word * 64 + byte * 8;
            std::memcpy(&eight, at, 8);
            for (int64_t bit = 0; bit < 8; bit++)
                eight += (bits[word] >> (byte * 8 + bit) & 1) << (8 * bit);
            std::memcpy(at, &eight, 8);
        }
#endif
    }
}

void add(const spk_op &op, int64_t frame, int64_t) {
    const int64_t words = words_of(op.channels), positions = positions_of(op);
    for (int64_t row = frame * positions; row < (frame + 1) * positions; row++) {
        uint8_t *counts = static_cast<uint8_t *>(op.output) + row * words * 64;
        std::fill(counts, counts + words * 64, uint8_t(0));
        add_onto(counts, op.input, op.storage, row, words);
        add_onto(counts, op.other, op.other_storage, row, words);
    }
}

}  // namespace
}  // namespace spikformer
