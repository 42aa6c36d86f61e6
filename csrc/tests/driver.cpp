// Every operation on random spikes, on every instruction set, against loops that one can read.
//
// All numbers are small multiples of 1/8: sums are exact in any order, and results equal to the
// bit. Buffers end where they must, so that a sanitizer sees a step beyond. The arguments are the
// instruction sets that there must be, best first; it exits with 1 if anything is not so.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../engine.h"

namespace {

std::mt19937 generator(7);

int uniform(int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(generator);
}

// Memory that begins at a multiple of 64 bytes, and ends with its last element.
template <class E>
struct Buffer {
    int64_t size;
    std::unique_ptr<E, decltype(&std::free)> memory{nullptr, std::free};

    explicit Buffer(int64_t size) : size(size) {
        void *room = nullptr;
        if (posix_memalign(&room, 64, size ? size * sizeof(E) : 1)) std::abort();
        std::memset(room, 0, size * sizeof(E));
        memory.reset(static_cast<E *>(room));
    }

    E &operator[](int64_t at) { return memory.get()[at]; }
    E *data() { return memory.get(); }
};

int64_t up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Values [rows][channels], and as the engine holds them.
struct Values {
    int64_t rows, channels;
    std::vector<int> of;

    Values(int64_t rows, int64_t channels) : rows(rows), channels(channels), of(rows * channels) {}

    static Values random(int64_t rows, int64_t channels, double rate, int most) {
        Values values(rows, channels);
        std::bernoulli_distribution fires(rate);
        for (int &value : values.of) value = fires(generator) ? uniform(1, most) : 0;
        return values;
    }

    int &at(int64_t row, int64_t channel) { return of[row * channels + channel]; }

    Buffer<uint8_t> packed(int32_t storage) {
        const int64_t bytes = up(channels, 64) / (storage == SPK_SPIKES ? 8 : 1);
        Buffer<uint8_t> packed(rows * bytes);
        for (int64_t row = 0; row < rows; row++)
            for (int64_t channel = 0; channel < channels; channel++) {
                if (storage == SPK_SPIKES)
                    packed[row * bytes + channel / 8] |= at(row, channel) << (channel % 8);
                else packed[row * bytes + channel] = static_cast<uint8_t>(at(row, channel));
            }
        return packed;
    }
};

template <class E>
bool equal(Buffer<E> &one, Buffer<E> &other) {
    return one.size == other.size && !std::memcmp(one.data(), other.data(), one.size * sizeof(E));
}

spk_neuron random_neuron() {
    spk_neuron neuron = {};
    neuron.charge = uniform(SPK_SUM, SPK_DIVIDE);
    neuron.soft_reset = uniform(0, 1);
    neuron.tau = 2, neuron.rate = 0.5f, neuron.threshold = 1;
    neuron.rest = uniform(0, 1) ? 0 : -0.5f;
    return neuron;
}

// One step of one neuron.
int fired(const spk_neuron &neuron, float x, float &v) {
    float u = v + x;
    if (neuron.charge == SPK_MULTIPLY) u = v + (x - (v - neuron.rest)) * neuron.rate;
    if (neuron.charge == SPK_DIVIDE) u = v + (x - (v - neuron.rest)) / neuron.tau;
    const int spike = u >= neuron.threshold;
    v = !spike ? u : neuron.soft_reset ? u - neuron.threshold : neuron.rest;
    return spike;
}

struct Engine {
    const char *set;
    spk_pool *pool;
    int threads, wrong = 0, cases = 0;

    void run(const spk_op &op) { spk_run(&op, 1, set, pool, nullptr); }

    void expect(bool holds, const std::string &what) {
        cases++;
        if (holds) return;
        wrong++;
        std::printf("%s, %d threads: %s\n", set, threads, what.c_str());
    }
};

// Weight rows as `op` reads them: tiles of columns, then taps, then channels.
template <class E>
Buffer<E> tiles(const spk_op &op, std::vector<int> &weights) {
    const bool dot8 = op.arithmetic == SPK_DOT8, zeros = op.path == SPK_EVENTS;
    const int64_t taps = op.kernel * op.kernel, rows = dot8 ? up(op.channels, 4) : op.channels;
    const int64_t tile_size = (taps * rows + zeros) * op.tile;
    Buffer<E> packed(up(op.out_channels, op.tile) / op.tile * tile_size);
    for (int64_t tap = 0; tap < taps; tap++)
        for (int64_t channel = 0; channel < op.channels; channel++)
            for (int64_t column = 0; column < op.out_channels; column++) {
                const int64_t within = column % op.tile, row = tap * rows + channel;
                const int64_t at = dot8 ? (row - channel % 4) * op.tile + within * 4 + channel % 4
                                        : row * op.tile + within;
                packed[column / op.tile * tile_size + at] = static_cast<E>(
                    weights[(tap * op.channels + channel) * op.out_channels + column]);
            }
    return packed;
}

struct LayerCase {
    int32_t storage, path, arithmetic, tile;
    int64_t kernel, height, width, channels, out_channels;
    double rate;
    int most_weight;
    int64_t safe_events;
};

void layer(Engine &engine, const LayerCase &c, const std::string &what) {
    spk_op op = {};
    op.kind = SPK_LAYER, op.storage = c.storage, op.path = c.path, op.arithmetic = c.arithmetic;
    op.tile = c.tile, op.images = 2, op.steps = 3, op.kernel = c.kernel;
    op.steps_in = c.path == SPK_DENSE && c.storage == SPK_PIXELS ? 1 : op.steps;
    op.height = c.height, op.width = c.width, op.channels = c.channels;
    op.out_channels = c.out_channels, op.safe_events = c.safe_events, op.neuron = random_neuron();
    const int64_t positions = op.height * op.width, frames = op.images * op.steps_in;
    const int most = c.storage == SPK_SPIKES ? 1 : 3, border = op.kernel / 2;

    Values in = Values::random(frames * positions, op.channels, c.rate, most);
    Buffer<uint8_t> packed = in.packed(c.storage);
    Buffer<float> pixels(frames * positions * op.channels);
    for (int64_t row = 0; row < in.rows; row++)
        for (int64_t channel = 0; channel < op.channels; channel++)
            pixels[(row / positions * op.channels + channel) * positions + row % positions] =
                static_cast<float>(in.at(row, channel));
    op.input = c.storage == SPK_PIXELS ? static_cast<void *>(pixels.data()) : packed.data();

    std::vector<int> weights(op.kernel * op.kernel * op.channels * op.out_channels);
    for (int &weight : weights) weight = uniform(-c.most_weight, c.most_weight);
    auto floats = tiles<float>(op, weights);
    auto bytes = tiles<int8_t>(op, weights);
    op.weights = c.arithmetic == SPK_FLOAT ? static_cast<void *>(floats.data()) : bytes.data();
    const int64_t columns = up(op.out_channels, op.tile), row_out = up(op.out_channels, 64);
    Buffer<float> scales(columns), bias(columns), potential(op.images * positions * row_out);
    for (int64_t column = 0; column < op.out_channels; column++) {
        scales[column] = c.arithmetic == SPK_FLOAT ? 1.0f : 0.125f;
        bias[column] = uniform(-4, 4) * 0.125f;
    }
    for (int64_t i = 0; i < potential.size; i++) potential[i] = uniform(-8, 8) * 0.125f;
    const bool keeps = uniform(0, 1);
    op.scales = c.arithmetic == SPK_FLOAT ? nullptr : scales.data();
    op.bias = bias.data(), op.potential = keeps ? potential.data() : nullptr;

    Values out(op.images * op.steps * positions, op.out_channels);
    std::vector<float> left;
    for (int64_t image = 0; image < op.images; image++)
        for (int64_t position = 0; position < positions; position++)
            for (int64_t column = 0; column < op.out_channels; column++) {
                float v = op.neuron.rest;
                if (keeps) v = potential[(image * positions + position) * row_out + column];
                for (int64_t step = 0; step < op.steps; step++) {
                    const int64_t frame = image * op.steps_in + std::min(step, op.steps_in - 1);
                    int64_t sum = 0;
                    for (int64_t tap = 0; tap < op.kernel * op.kernel; tap++) {
                        const int64_t y = position / op.width + tap / op.kernel - border;
                        const int64_t x = position % op.width + tap % op.kernel - border;
                        if (y < 0 || x < 0 || y >= op.height || x >= op.width) continue;
                        for (int64_t channel = 0; channel < op.channels; channel++)
                            sum +=
                                in.at(frame * positions + y * op.width + x, channel) *
                                weights[(tap * op.channels + channel) * op.out_channels + column];
                    }
                    out.at((image * op.steps + step) * positions + position, column) = fired(
                        op.neuron, static_cast<float>(sum) * scales[column] + bias[column], v);
                }
                left.push_back(v);
            }

    op.block = 5;
    op.events_per_step = positions * op.channels * most + 16;
    Buffer<uint32_t> events(frames * op.events_per_step), starts(frames * (positions + 1));
    const int64_t elements = c.arithmetic == SPK_DOT8 ? up(op.channels, 4) : 4 * op.channels;
    Buffer<uint8_t> dense(frames * (op.height + 2 * border) * (op.width + 2 * border) * elements);
    op.events = events.data(), op.starts = starts.data(), op.dense = dense.data();
    Buffer<uint8_t> expected = out.packed(SPK_SPIKES), got(expected.size);
    op.output = got.data();
    engine.run(op);
    engine.expect(equal(expected, got), what + ": spikes");
    bool same = true;
    for (int64_t i = 0; keeps && i < static_cast<int64_t>(left.size()); i++)
        same &= left[i] == potential[i / op.out_channels * row_out + i % op.out_channels];
    engine.expect(same, what + ": potentials");
}

void layers(Engine &engine) {
    for (int64_t kernel : {1, 3})
        for (double rate : {0.0, 0.15, 1.0})
            for (int64_t channels : {3, 64, 70}) {
                const int64_t height = uniform(1, 5), width = uniform(1, 9), out = uniform(1, 150);
                auto shape = [&](int32_t storage, int32_t path, int32_t arithmetic, int32_t tile,
                                 int weight = 7, int64_t safe = 4000) {
                    const std::string what =
                        "layer, storage " + std::to_string(storage) + ", path " +
                        std::to_string(path) + ", arithmetic " + std::to_string(arithmetic) +
                        ", tile " + std::to_string(tile) + ", kernel " + std::to_string(kernel) +
                        ", rate " + std::to_string(rate) + ", " + std::to_string(height) + " x " +
                        std::to_string(width) + ", " + std::to_string(channels) + " to " +
                        std::to_string(out);
                    layer(engine,
                          {storage, path, arithmetic, tile, kernel, height, width, channels, out,
                           rate, weight, safe},
                          what);
                };
                for (int32_t storage : {SPK_SPIKES, SPK_COUNTS}) {
                    for (int32_t tile : {16, 32, 64, 96, 128})
                        shape(storage, SPK_EVENTS, SPK_FLOAT, tile);
                    for (int32_t tile : {32, 64, 96, 128}) {
                        shape(storage, SPK_EVENTS, SPK_INT16, tile);
                        shape(storage, SPK_EVENTS, SPK_INT16, tile, 127, 32767 / 127);
                        shape(storage, SPK_EVENTS, SPK_INT16, tile, 7, 5);
                    }
                    shape(storage, SPK_DENSE, SPK_FLOAT, 64);
                    shape(storage, SPK_DENSE, SPK_DOT8, 64);
                    shape(storage, SPK_DENSE, SPK_DOT8, 64, 127);
                }
                shape(SPK_PIXELS, SPK_DENSE, SPK_FLOAT, 64);
            }
}

void pool(Engine &engine) {
    for (int64_t side : {1, 4, 7}) {
        spk_op op = {};
        op.kind = SPK_POOL, op.storage = SPK_SPIKES, op.images = 2, op.steps_in = op.steps = 2;
        op.height = side, op.width = side + 1, op.channels = uniform(1, 130);
        const int64_t frames = op.images * op.steps, positions = op.height * op.width;
        const int64_t height = (op.height + 1) / 2, width = (op.width + 1) / 2;
        Values in = Values::random(frames * positions, op.channels, 0.2, 1);
        Values out(frames * height * width, op.channels);
        for (int64_t row = 0; row < in.rows; row++) {
            const int64_t frame = row / positions, y = row % positions / op.width,
                          x = row % op.width;
            for (int64_t oy = 0; oy < height; oy++)
                for (int64_t ox = 0; ox < width; ox++)
                    if (std::abs(2 * oy - y) <= 1 && std::abs(2 * ox - x) <= 1)
                        for (int64_t channel = 0; channel < op.channels; channel++)
                            out.at((frame * height + oy) * width + ox, channel) |=
                                in.at(row, channel);
        }
        Buffer<uint8_t> packed = in.packed(SPK_SPIKES), expected = out.packed(SPK_SPIKES);
        Buffer<uint8_t> got(expected.size);
        op.input = packed.data(), op.output = got.data();
        engine.run(op);
        engine.expect(equal(expected, got), "pool of " + std::to_string(side));
    }
}

void add(Engine &engine) {
    for (int32_t one : {SPK_SPIKES, SPK_COUNTS})
        for (int32_t other : {SPK_SPIKES, SPK_COUNTS}) {
            spk_op op = {};
            op.kind = SPK_ADD, op.storage = one, op.other_storage = other;
            op.images = 2, op.steps_in = op.steps = 2, op.height = 3, op.width = 2;
            op.channels = uniform(1, 130);
            Values a = Values::random(24, op.channels, 0.5, one == SPK_SPIKES ? 1 : 9);
            Values b = Values::random(24, op.channels, 0.5, other == SPK_SPIKES ? 1 : 9);
            Values sum(24, op.channels);
            for (size_t i = 0; i < sum.of.size(); i++) sum.of[i] = a.of[i] + b.of[i];
            Buffer<uint8_t> left = a.packed(one), right = b.packed(other);
            Buffer<uint8_t> expected = sum.packed(SPK_COUNTS), got(expected.size);
            op.input = left.data(), op.other = right.data(), op.output = got.data();
            engine.run(op);
            engine.expect(equal(expected, got), "add");
        }
}

void attention(Engine &engine, int64_t head_width, int64_t heads, int64_t pool, bool keys_first) {
    spk_op op = {};
    op.kind = SPK_ATTENTION, op.storage = SPK_SPIKES, op.images = 2, op.steps_in = op.steps = 3;
    op.height = 3, op.width = 5, op.channels = head_width * heads, op.heads = heads, op.pool = pool;
    op.scale = 0.125f, op.keys_first = keys_first, op.neuron = random_neuron();
    const int64_t tokens = op.height * op.width, padded = up(head_width, 16);
    Values in = Values::random(op.images * op.steps * tokens, 3 * op.channels, 0.3, 1);
    Values out(op.images * op.steps * tokens, op.channels);
    Buffer<float> potential(op.images * heads * tokens * padded);
    const bool keeps = uniform(0, 1);
    for (int64_t i = 0; i < potential.size; i++)
        potential[i] = keeps ? uniform(-8, 8) * 0.125f : op.neuron.rest;
    if (keeps) op.potential = potential.data();
    Buffer<float> after(potential.size);
    std::memcpy(after.data(), potential.data(), potential.size * sizeof(float));

    auto pooled = [&](int64_t frame, int64_t token, int64_t channel) {
        int any = 0;
        for (int64_t near = token - pool / 2; near <= token + pool / 2; near++)
            if (near >= 0 && near < tokens) any |= in.at(frame * tokens + near, channel);
        return any;
    };
    for (int64_t frame = 0; frame < op.images * op.steps; frame++)
        for (int64_t head = 0; head < heads; head++)
            for (int64_t token = 0; token < tokens; token++) {
                std::vector<int> sums(head_width);
                for (int64_t other = 0; other < tokens; other++) {
                    int common = 0;
                    for (int64_t i = head * head_width; i < (head + 1) * head_width; i++)
                        common += pooled(frame, token, i) & pooled(frame, other, op.channels + i);
                    for (int64_t i = 0; i < head_width; i++)
                        sums[i] += common * in.at(frame * tokens + other,
                                                  2 * op.channels + head * head_width + i);
                }
                for (int64_t i = 0; i < head_width; i++) {
                    const int64_t row = (frame / op.steps * heads + head) * tokens + token;
                    out.at(frame * tokens + token, head * head_width + i) = fired(
                        op.neuron, static_cast<float>(sums[i]) * op.scale, after[row * padded + i]);
                }
            }

    op.scratch_bytes =
        up((2 * tokens + head_width) * padded * 4 + 3 * tokens * up(head_width, 64) / 8, 64);
    Buffer<uint8_t> scratch(engine.threads * op.scratch_bytes);
    Buffer<uint8_t> packed = in.packed(SPK_SPIKES), expected = out.packed(SPK_SPIKES);
    Buffer<uint8_t> got(expected.size);
    std::memset(got.data(), 255, got.size);  // what was there before does not stay
    op.input = packed.data(), op.output = got.data(), op.scratch = scratch.data();
    engine.run(op);
    const std::string what = "attention, " + std::to_string(heads) + " heads of " +
                             std::to_string(head_width) + ", pool " + std::to_string(pool) +
                             (keys_first ? ", keys first" : "");
    engine.expect(equal(expected, got), what);
    bool same = true;
    for (int64_t i = 0; keeps && i < potential.size; i++)
        same &= i % padded >= head_width || potential[i] == after[i];
    engine.expect(same, what + ": potentials");
}

void head(Engine &engine) {
    for (int32_t storage : {SPK_SPIKES, SPK_COUNTS}) {
        spk_op op = {};
        op.kind = SPK_HEAD, op.storage = storage, op.images = 3, op.steps_in = op.steps = 2;
        op.height = 2, op.width = 4, op.channels = uniform(1, 130),
        op.out_channels = uniform(1, 12);
        const int64_t tokens = op.height * op.width;
        Values in = Values::random(op.images * op.steps * tokens, op.channels, 0.3,
                                   storage == SPK_SPIKES ? 1 : 9);
        Buffer<float> weights(op.out_channels * op.channels), bias(op.out_channels);
        for (int64_t i = 0; i < weights.size; i++) weights[i] = uniform(-8, 8) * 0.125f;
        for (int64_t i = 0; i < bias.size; i++) bias[i] = uniform(-8, 8) * 0.125f;
        Buffer<float> logits(op.images * op.out_channels), steps(op.steps * logits.size);
        Buffer<float> got(logits.size), got_steps(steps.size);
        for (int64_t frame = 0; frame < op.images * op.steps; frame++)
            for (int64_t k = 0; k < op.out_channels; k++) {
                double sum = 0;  // tokens and steps are powers of two: exact
                for (int64_t row = frame * tokens; row < (frame + 1) * tokens; row++)
                    for (int64_t channel = 0; channel < op.channels; channel++)
                        sum += in.at(row, channel) * double(weights[k * op.channels + channel]);
                steps[frame * op.out_channels + k] = float(sum / tokens + bias[k]);
                const int64_t image = frame / op.steps;
                float &logit = logits[image * op.out_channels + k];
                logit += float(sum / (tokens * op.steps)) + (frame % op.steps ? 0 : bias[k]);
            }
        op.scratch_bytes = up(2 * op.channels * 4, 64);
        Buffer<uint8_t> scratch(engine.threads * op.scratch_bytes), packed = in.packed(storage);
        op.input = packed.data(), op.output = got.data(), op.steps_output = got_steps.data();
        op.weights = weights.data(), op.bias = bias.data(), op.scratch = scratch.data();
        engine.run(op);
        engine.expect(equal(logits, got) && equal(steps, got_steps), "head");
    }
}

}  // namespace

int main(int count, char **arguments) {
    const std::string sets = spk_instruction_sets();
    std::string wanted;
    for (int i = 1; i < count; i++) wanted += (i > 1 ? " " : "") + std::string(arguments[i]);
    if (count > 1 && wanted != sets) {
        std::printf("instruction sets: %s, wanted %s\n", sets.c_str(), wanted.c_str());
        return 1;
    }
    int wrong = spk_version() != SPK_VERSION || spk_op_bytes() != sizeof(spk_op) ||
                spk_run(nullptr, 0, "abacus", nullptr, nullptr) != -1;
    for (size_t begin = 0; begin < sets.size(); begin = sets.find(' ', begin) + 1) {
        const std::string set = sets.substr(begin, sets.find(' ', begin) - begin);
        for (int threads : {1, 3}) {
            Engine engine{set.c_str(), spk_pool_new(threads), threads};
            layers(engine);
            pool(engine);
            add(engine);
            for (int64_t width : {1, 5, 8, 12, 32, 64, 100, 128})
                for (int64_t heads : {1, 3})
                    for (int64_t pool : {1, 3})
                        for (bool keys_first : {false, true})
                            attention(engine, width, heads, pool, keys_first);
            head(engine);
            spk_pool_free(engine.pool);
            std::printf("%s, %d threads: %d of %d wrong\n", set.c_str(), threads, engine.wrong,
                        engine.cases);
            wrong += engine.wrong;
        }
        if (sets.find(' ', begin) == std::string::npos) break;
    }
    return wrong ? 1 : 0;
}
