#include "linear.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <memory>

#include "dispatch.h"

namespace ovgen {
namespace {

constexpr int64_t kAloneBytes = 32 << 10;  // of weights: fewer are not worth a second thread, which takes 0.5 us
constexpr int64_t kAloneTokens = 4;        // quantised likewise

// What a thread keeps from one call to the next, aligned for the kernels.
class Scratch {
public:
    uint8_t* take(int64_t bytes) {
        if (bytes > size_) {
            size_ = 0;
            memory_.reset();
            memory_.reset(new (std::align_val_t(64)) uint8_t[bytes]);
            size_ = bytes;
        }
        return memory_.get();
    }

private:
    struct Free {
        void operator()(uint8_t* memory) const { ::operator delete[](memory, std::align_val_t(64)); }
    };
    std::unique_ptr<uint8_t[], Free> memory_;
    int64_t size_ = 0;
};

// The activations of `tokens` tokens, in tiles.
class Activations {
public:
    Activations(const Layout& layout, int64_t tokens, Scratch& scratch) : layout_(layout), tokens_(tokens) {
        const int64_t codes = up(tokens * layout.blocks * kBlock, 64);
        const int64_t numbers = up(tokens * layout.pieces * 4, 64);
        codes_ = reinterpret_cast<int8_t*>(scratch.take(codes + 2 * numbers));
        scales_ = reinterpret_cast<float*>(codes_ + codes);
        sums_ = reinterpret_cast<float*>(codes_ + codes + numbers);
    }

    Tile tile(int64_t first) const {
        return {std::min(kTile, tokens_ - first), codes_ + first * layout_.blocks * kBlock,
                scales_ + first * layout_.pieces, sums_ + first * layout_.pieces};
    }

private:
    const Layout& layout_;
    int64_t tokens_;
    int8_t* codes_;
    float* scales_;
    float* sums_;
};

// Call body(begin, end) for parts of [0, count), on as many threads.
template <class Body>
void in_parallel(int64_t count, int64_t threads, const Body& body) {
    if (threads <= 1 || count <= 1) return body(0, count);
    tbb::this_task_arena::isolate([&] {  // waiting, this thread shall not begin with what would take its scratch
        tbb::parallel_for(
            int64_t(0), threads, [&](int64_t i) { body(count * i / threads, count * (i + 1) / threads); },
            tbb::static_partitioner());
    });
}

// Call multiply(token, begin, end, outputs) for tiles of tokens, from `token` on, and for parts of the panels.
template <class Multiply>
void in_tiles(const OvgenShape& shape, const Layout& layout, int64_t tokens, int64_t tile, int64_t threads,
              float* const* outputs, const Multiply& multiply) {
    const int64_t together = shape.gated ? 2 : 1;  // panels
    in_parallel(layout.panels / together, layout.bytes < kAloneBytes ? 1 : threads, [&](int64_t begin, int64_t end) {
        for (int64_t token = 0; token < tokens; token += tile) {
            float* at[kMostProjections];
            for (int64_t i = 0; i < kMostProjections && shape.rows[i] != 0; i++) {
                if (i == 0 || !shape.gated) at[i] = outputs[i] + token * shape.rows[i];
            }
            multiply(token, begin * together, end * together, at);
        }
    });
}

}  // namespace

void linear(const Kernels& kernels, const OvgenShape& shape, const uint8_t* packed, const float* x, int64_t tokens,
            float* const* outputs, int64_t threads) {
    const Layout layout(shape);
    if (threads == 0) threads = tbb::this_task_arena::max_concurrency();
    if (!has_codes(shape)) {
        return in_tiles(shape, layout, tokens, kFloatTile, threads, outputs, [&](int64_t token, auto... part) {
            const float* first = x + token * shape.columns;
            kernels.multiply_floats(shape, layout, packed, first, std::min(kFloatTile, tokens - token), part...);
        });
    }

    thread_local Scratch scratch;
    const Activations activations(layout, tokens, scratch);
    in_parallel(tokens, tokens <= kAloneTokens ? 1 : threads, [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; token++) {
            const Tile tile = activations.tile(token / kTile * kTile);
            kernels.quantise(shape, layout, x + token * shape.columns, token % kTile, tile);
        }
    });

    in_tiles(shape, layout, tokens, kTile, threads, outputs, [&](int64_t token, auto... part) {
        kernels.multiply(shape, layout, packed, activations.tile(token), part...);
    });
}

}  // namespace ovgen

int32_t ovgen_linear(int32_t set, const OvgenShape* shape, const uint8_t* packed, const float* x, int64_t tokens,
                  float* const* outputs, int32_t threads) {
    const ovgen::Kernels* kernels = ovgen::kernels(set);
    if (kernels == nullptr) return 0;
    ovgen::linear(*kernels, *shape, packed, x, tokens, outputs, threads);
    return 1;
}
