// How a matrix lies in memory for the kernels, and the numbers that follow from its shape.
//
// A matrix (rows, columns) of one or more projections of the same input. Rows are taken eight at a time, as a *panel*;
// each projection is filled up to whole panels. If the matrix is gated, which takes two projections of one size, panels
// of the first and the second alternate.
//
// Floats lie as they are: a panel is its columns one after the other, each the numbers of eight rows. Of bfloat16, two
// columns alternate, which are the lower and the upper halves of 32-bit lanes; an odd last one is followed by zeros.
//
// Of codes, columns are cut into *groups* that share a scale, groups into *pieces* of at most 128 columns, which are
// what activations are quantised by, and pieces, filled up with zeros, into *blocks* of 32 columns. A block of a panel is
//     4 bits: 4 units of 32 bytes, byte 4 r + b of unit u holding columns 8 u + b (low half) and 8 u + 4 + b of row r;
//     8 bits: 8 units of 32 bytes, byte 4 r + b of unit u holding column 4 u + b of row r.
// So one 32-byte register holds eight rows, each in a 32-bit lane of its own, and a 4-byte piece of the activations,
// repeated in all lanes, meets all of them: sums end up one row to a lane, with nothing to add across lanes.
//
// 4-bit codes are 0 ... 15 with zero point 8 where none is stored. 8-bit codes are -128 ... 127; their zero points are
// stored as if 128 were added to them, and 0 where none is. In memory follow, each part from a multiple of 64 bytes:
// codes (panel, block); scales, float16 (panel, group, row); zero points, float16 likewise, if any; biases, float32
// (panel, row), if any. With floats there are no scales and zero points.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ovgen {

constexpr int64_t kPanel = 8;    // rows
constexpr int64_t kBlock = 32;   // columns
constexpr int64_t kPiece = 128;  // columns
constexpr int64_t kMostProjections = 4;

inline __attribute__((always_inline)) int64_t up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

enum Format : int32_t { kInt4, kInt8, kFloat16, kBfloat16, kFloat32 };  // of a number: codes, then floats
enum Activation : int32_t { kNone, kRelu, kGeluTanh, kGeluErf, kSilu };

}  // namespace ovgen

extern "C" {

// What a matrix is; ctypes mirrors it, so every field has a fixed size.
struct OvgenShape {
    int64_t columns;
    int64_t group;        // columns that share a scale; divides `columns`, and is as much for floats
    int64_t rows[4];      // of each projection, 0 after the last
    int32_t format;       // ovgen::Format
    int32_t zero_points;  // whether they are stored
    int32_t bias;         // whether there is one
    int32_t gated;        // the result is activation(first) * second, one output
    int32_t activation;   // ovgen::Activation
};
}

namespace ovgen {

inline __attribute__((always_inline)) bool has_codes(const OvgenShape& shape) { return shape.format <= kInt8; }

// Of a number.
inline __attribute__((always_inline)) int64_t bits_of(int32_t format) {
    return format == kInt4 ? 4 : format == kInt8 ? 8 : format == kFloat32 ? 32 : 16;
}

// Where a float is in its panel.
inline __attribute__((always_inline)) int64_t place_of(int32_t format, int64_t column, int64_t row) {
    return format == kBfloat16 ? (column / 2 * kPanel + row) * 2 + column % 2 : column * kPanel + row;
}

// Numbers that follow from a shape; offsets in bytes.
struct Layout {
    // Inlined always: the linker must not take one that was compiled for another instruction set.
    __attribute__((always_inline)) explicit Layout(const OvgenShape& shape) {
        groups = shape.columns / shape.group;
        pieces_per_group = (shape.group + kPiece - 1) / kPiece;
        const int64_t last = shape.group - (pieces_per_group - 1) * kPiece;
        blocks_per_group = (pieces_per_group - 1) * (kPiece / kBlock) + up(last, kBlock) / kBlock;
        pieces = groups * pieces_per_group;
        blocks = groups * blocks_per_group;
        panels = 0;
        for (int64_t rows : shape.rows) panels += up(rows, kPanel) / kPanel;
        block_bytes = kPanel * kBlock * bits_of(shape.format) / 8;
        const int64_t columns = shape.format == kBfloat16 ? up(shape.columns, 2) : shape.columns;
        panel_bytes = has_codes(shape) ? blocks * block_bytes : kPanel * columns * bits_of(shape.format) / 8;
        scales = up(panels * panel_bytes, 64);
        zeros = scales + (has_codes(shape) ? up(panels * groups * kPanel * 2, 64) : 0);
        biases = zeros + (shape.zero_points ? up(panels * groups * kPanel * 2, 64) : 0);
        bytes = biases + (shape.bias ? up(panels * kPanel * 4, 64) : 0);
    }

    int64_t groups, pieces_per_group, blocks_per_group, pieces, blocks, panels;
    int64_t block_bytes, panel_bytes, scales, zeros, biases, bytes;
};

}  // namespace ovgen
