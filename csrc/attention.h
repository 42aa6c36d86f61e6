// Spiking self-attention: Q, K and V are bits, their products additions.
#pragma once

#include <algorithm>

#include "neuron.h"
#include "spikes.h"

namespace spikformer {
namespace {

// 64 bits from any place on; what is behind `end` is zero.
inline uint64_t bits_from(const uint64_t *words, int64_t at, int64_t end) {
    const int64_t word = at / 64, shift = at % 64;
    uint64_t bits = words[word] >> shift;
    if (shift && word * 64 + 64 < end) bits |= words[word + 1] << (64 - shift);
    return end - at < 64 ? bits & ((uint64_t(1) << (end - at)) - 1) : bits;
}

// A head's bits of all tokens, moved to begin at a word; of Q and K, the OR of neighbouring tokens.
void take_head(const spk_op &op, const uint64_t *frame, int64_t channel, int64_t radius,
               uint64_t *head) {
    const int64_t tokens = positions_of(op), words = words_of(3 * op.channels);
    const int64_t end = channel + op.channels / op.heads;
    for (int64_t token = 0; token < tokens; token++)
        for (int64_t at = channel; at < end; at += 64, head++) {
            *head = 0;
            for (int64_t near = std::max<int64_t>(token - radius, 0);
                 near <= std::min(token + radius, tokens - 1); near++)
                *head |= bits_from(frame + near * words, at, end);
        }
}

// So many heads are one item that no two items write to one word.
int64_t heads_together(const spk_op &op) {
    const int64_t width = op.channels / op.heads;
    for (int64_t heads = 1; heads < op.heads; heads++)
        if (op.heads % heads == 0 && heads * width % 64 == 0) return heads;
    return op.heads;
}

int64_t attention_items(const spk_op &op) { return op.images * op.heads / heads_together(op); }

int64_t padded(int64_t width) { return ceil_div(width, 16) * 16; }

struct Head {
    int64_t tokens, width, words, row;  // row: a token's sums, padded
    uint64_t *q, *k, *v;
    int32_t *sums, *keys_values;
    float *potential;

    Head(const spk_op &op, int64_t thread) {
        tokens = positions_of(op), width = op.channels / op.heads;
        words = words_of(width), row = padded(width);
        char *at = static_cast<char *>(op.scratch) + thread * op.scratch_bytes;
        sums = reinterpret_cast<int32_t *>(at);
        keys_values = sums + tokens * row;
        potential = reinterpret_cast<float *>(keys_values + width * row);
        q = reinterpret_cast<uint64_t *>(potential + tokens * row);
        k = q + tokens * words, v = k + tokens * words;
    }

    // Adds 1 (or `times`) to a row of sums wherever the token's value fires.
    void add_value(int64_t token, int32_t times, int32_t *to) const {
        for_each_bit(v + token * words, 0, width, [&](int64_t channel) { to[channel] += times; });
    }

    // Q (K^T V): for each key's spike the token's values, for each query's spike that row.
    void keys_first() const {
        std::fill(keys_values, keys_values + width * row, 0);
        std::fill(sums, sums + tokens * row, 0);
        for (int64_t token = 0; token < tokens; token++)
            for_each_bit(k + token * words, 0, width, [&](int64_t channel) {
                add_value(token, 1, keys_values + channel * row);
            });
        for (int64_t token = 0; token < tokens; token++)
            for_each_bit(q + token * words, 0, width, [&](int64_t channel) {
                int32_t *to = sums + token * row;
                const int32_t *from = keys_values + channel * row;
                for (int64_t i = 0; i < row; i++) to[i] += from[i];
            });
    }

    // (Q K^T) V: population counts of the ANDs, each times the other token's values.
    void queries_first() const {
        std::fill(sums, sums + tokens * row, 0);
        for (int64_t token = 0; token < tokens; token++)
            for (int64_t other = 0; other < tokens; other++) {
                int32_t common = 0;
                for (int64_t word = 0; word < words; word++)
                    common +=
                        __builtin_popcountll(q[token * words + word] & k[other * words + word]);
                if (common) add_value(other, common, sums + token * row);
            }
    }
};

void attend(const spk_op &op, int64_t image, int64_t index, const Head &head) {
    const int64_t words_in = words_of(3 * op.channels), words_out = words_of(op.channels);
    const int64_t at = index * head.width, radius = op.pool / 2;
    float *potential = head.potential;
    if (op.potential)
        potential = op.potential + (image * op.heads + index) * head.tokens * head.row;
    else std::fill(potential, potential + head.tokens * head.row, op.neuron.rest);
    alignas(64) float scales[lanes<float>];
    std::fill(scales, scales + lanes<float>, op.scale);
    for (int64_t step = 0; step < op.steps; step++) {
        const int64_t frame = image * op.steps + step;
        const uint64_t *in =
            static_cast<const uint64_t *>(op.input) + frame * head.tokens * words_in;
        take_head(op, in, at, radius, head.q);
        take_head(op, in, op.channels + at, radius, head.k);
        take_head(op, in, 2 * op.channels + at, 0, head.v);
        if (op.keys_first) head.keys_first();
        else head.queries_first();
        for (int64_t token = 0; token < head.tokens; token++) {
            uint64_t *out =
                static_cast<uint64_t *>(op.output) + (frame * head.tokens + token) * words_out;
            for (int64_t i = 0; i < head.width; i += lanes<float>) {
                uint64_t bits =
                    fire<lanes<float>>(op.neuron, head.sums + token * head.row + i, scales, nullptr,
                                       potential + token * head.row + i);
                if (head.width - i < lanes<float>) bits &= (uint64_t(1) << (head.width - i)) - 1;
                const int64_t bit = at + i;
                out[bit / 64] |= bits << (bit % 64);
                if (bit % 64 + lanes<float> > 64 && bits >> (64 - bit % 64))
                    out[bit / 64 + 1] |= bits >> (64 - bit % 64);
            }
        }
    }
}

void attention(const spk_op &op, int64_t item, int64_t thread) {
    const int64_t together = heads_together(op), groups = op.heads / together;
    const int64_t image = item / groups, first = item % groups * together;
    const int64_t words = words_of(op.channels), width = op.channels / op.heads;
    const Head head(op, thread);
    for (int64_t row = image * op.steps * head.tokens; row < (image + 1) * op.steps * head.tokens;
         row++) {
        uint64_t *out = static_cast<uint64_t *>(op.output) + row * words;
        std::fill(out + first * width / 64, out + words_of((first + together) * width), 0);
    }
    for (int64_t index = first; index < first + together; index++) attend(op, image, index, head);
}

}  // namespace
}  // namespace spikformer
