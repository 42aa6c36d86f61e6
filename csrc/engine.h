/* The event-driven engine's C interface: plain structures, no C++ and no Python in it.
 *
 * A network is an array of `spk_op`, run in order on a group of images. All memory belongs to the
 * caller, who planned it; nothing here allocates but the threads' pool.
 *
 * Activations lie image by image, step by step, position by position, channels innermost:
 *   spikes  one bit a channel, in 64-bit words     [images][steps][positions][words]
 *   counts  one byte a channel, 64 to a word       [images][steps][positions][64 * words]
 * Bits and bytes beyond the last channel are zero.
 */
#ifndef SPIKFORMER_ENGINE_H
#define SPIKFORMER_ENGINE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SPK_VERSION 1

/* What the library shows; all else is hidden. */
#define SPK_API __attribute__((visibility("default")))

enum spk_kind {
    SPK_LAYER = 0,     /* linear map or 3x3 convolution, folded norm, neuron */
    SPK_POOL = 1,      /* 3x3 max-pool of stride 2: an OR */
    SPK_ADD = 2,       /* residual: counts = input + other */
    SPK_ATTENTION = 3, /* Q K^T V of one layer's spikes, scale, neuron */
    SPK_HEAD = 4       /* mean over tokens and steps, linear classifier */
};

enum spk_storage { SPK_PIXELS = 0, SPK_SPIKES = 1, SPK_COUNTS = 2 };

enum spk_path { SPK_EVENTS = 0, SPK_DENSE = 1 };

enum spk_arithmetic {
    SPK_FLOAT = 0, /* float32 weights and sums */
    SPK_INT16 = 1, /* int8 weights, sums in int16 of at most `safe_events` rows */
    SPK_DOT8 = 2   /* dense only: counts in bytes times int8 weights, sums in int32 */
};

enum spk_charge { SPK_SUM = 0, SPK_MULTIPLY = 1, SPK_DIVIDE = 2 };

/* u = v + x, or v + (x - (v - rest)) * rate, or .../ tau; a spike where u >= threshold; then v is
 * `rest`, or u - threshold. */
typedef struct {
    int32_t charge, soft_reset;
    float tau, rate, threshold, rest;
} spk_neuron;

typedef struct {
    int32_t kind, storage, other_storage, path, arithmetic, tile;
    /* Images of this run, steps in and out (one in for a still image), sides, channels. */
    int64_t images, steps_in, steps, height, width, channels, out_channels, kernel;
    int64_t events_per_step; /* capacity of `events` for one image and step, 16 to spare */
    int64_t block;           /* layer: positions of an item of work */
    int64_t safe_events;     /* so many rows cannot overflow int16, whatever they are */
    int64_t heads, pool;     /* attention: heads, and width in tokens of the max over Q and K */
    float scale;             /* attention */
    int32_t keys_first;      /* attention: Q (K^T V) instead of (Q K^T) V */
    spk_neuron neuron;
    const void *input, *other;
    void *output, *steps_output; /* head: logits, and those of each step */
    const void *weights;
    const float *scales, *bias; /* layer: per padded output channel; head: bias */
    float *potential;           /* null: starts at rest, forgets. Else read and written */
    uint32_t *events;           /* events path: lists of row offsets in bytes */
    uint32_t *starts; /* and where they begin; dense path: whether anything is in a frame */
    void *dense;      /* dense path: the input as rows, with a border */
    void *scratch;    /* attention: per thread */
    int64_t scratch_bytes;
} spk_op;

typedef struct spk_pool spk_pool;

SPK_API int32_t spk_version(void);
SPK_API int64_t spk_op_bytes(void);
/* Instruction sets that were compiled in and run on this processor, best first, by spaces. */
SPK_API const char *spk_instruction_sets(void);
/* Null when the system does not give so many threads. */
SPK_API spk_pool *spk_pool_new(int32_t threads);
SPK_API void spk_pool_free(spk_pool *pool);
/* 0, or -1 for an unknown instruction set. `seconds`, where not null, gets each operation's. */
SPK_API int32_t spk_run(const spk_op *ops, int64_t count, const char *instruction_set,
                        spk_pool *pool, double *seconds);

#ifdef __cplusplus
}
#endif

#endif
