// What each instruction set offers, and what is passed to it.
#pragma once

#include "packed.h"

namespace ovgen {

constexpr int64_t kTile = 32;       // tokens that go through codes together
constexpr int64_t kFloatTile = 48;  // and through floats: eight times six, which is what registers hold the sums of

// The activations of a tile of tokens. The codes of a block of all tokens lie together, 32 bytes a token, as do the
// numbers of a piece.
struct Tile {
    int64_t tokens;
    int8_t* codes;  // (blocks, tokens, 32)
    float* scales;  // (pieces, tokens)
    float* sums;    // (pieces, tokens): of the codes
};

struct Kernels {
    // Quantise a row of `columns` activations as token `token` of a tile.
    void (*quantise)(const OvgenShape& shape, const Layout& layout, const float* x, int64_t token, const Tile& tile);
    // Compute panels [begin, end) for the tokens of a tile. `outputs`: of each projection, at the tile's first token.
    void (*multiply)(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, const Tile& tile,
                     int64_t begin, int64_t end, float* const* outputs);
    // The same where weights are floats: `x` is (tokens, columns), at most `kFloatTile` of them.
    void (*multiply_floats)(const OvgenShape& shape, const Layout& layout, const uint8_t* packed, const float* x,
                            int64_t tokens, int64_t begin, int64_t end, float* const* outputs);
};

// Null where a source was left out, because the compiler does not know the instructions.
const Kernels* scalar_kernels();
__attribute__((weak)) const Kernels* avx2_kernels();
__attribute__((weak)) const Kernels* avx_vnni_kernels();
__attribute__((weak)) const Kernels* avx512_vnni_kernels();

}  // namespace ovgen
